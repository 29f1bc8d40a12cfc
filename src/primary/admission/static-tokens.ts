/** The configured tokens, compared in constant time, by digest. One that was found is known by its text from then on: a digest a request would cost more than admission else does. */
import { createHash, timingSafeEqual } from 'node:crypto'

/** Tells whose a token is. */
export class StaticTokens {
  readonly #entries: readonly { readonly principal: string; readonly digest: Buffer }[]
  /** Valid tokens that were presented, so never more than there are. What is not in here takes the way of constant time, and a map compares texts only when their seeded hashes are equal. */
  readonly #seen = new Map<string, string>()

  constructor(tokens: readonly { readonly principal: string; readonly token: string }[]) {
    this.#entries = tokens.map(({ principal, token }) => ({
      principal,
      digest: digestOf(token),
    }))
  }

  /** The principal that a token stands for, when it was presented before. */
  peek(token: string): string | undefined {
    return this.#seen.get(token)
  }

  /** Remembers whose a token is. */
  note(token: string, principal: string): void {
    this.#seen.set(token, principal)
  }

  /**
   * The principal that a token stands for, by the token's digest; undefined when it is none of ours. All are compared, so that the time taken does not
   * tell which one it was.
   */
  principalOf(digest: Buffer): string | undefined {
    let found: string | undefined
    for (const entry of this.#entries)
      if (timingSafeEqual(entry.digest, digest)) found ??= entry.principal
    return found
  }
}

/** Equal length for any token, so that neither content nor length shows in the time that a comparison takes. */
export function digestOf(token: string): Buffer {
  return createHash('sha256').update(token, 'utf8').digest()
}
