/** The configured tokens, compared in constant time. */
import { createHash, timingSafeEqual } from 'node:crypto'

/** Tells whose a token is. */
export class StaticTokens {
  readonly #entries: readonly { readonly principal: string; readonly digest: Buffer }[]

  constructor(tokens: readonly { readonly principal: string; readonly token: string }[]) {
    this.#entries = tokens.map(({ principal, token }) => ({ principal, digest: digest(token) }))
  }

  /** The principal that a token stands for; undefined when it is none of ours. All are compared, so that the time taken does not tell which one it was. */
  principalOf(presented: string): string | undefined {
    if (this.#entries.length === 0) return undefined
    const given = digest(presented)
    let found: string | undefined
    for (const entry of this.#entries)
      if (timingSafeEqual(entry.digest, given)) found ??= entry.principal
    return found
  }
}

/** Equal length for any input, so that neither content nor length shows in the time taken. */
function digest(text: string): Buffer {
  return createHash('sha256').update(text, 'utf8').digest()
}
