/** The adapter's own token, compared in constant time. */
import { createHash, timingSafeEqual } from 'node:crypto'

/** Decides whether a header value is the configured token. */
export class TokenCheck {
  readonly #expected: Buffer | null

  /** `token` is null when authentication is off: everything passes. */
  constructor(token: string | null) {
    this.#expected = token === null ? null : digest(token)
  }

  accepts(presented: string): boolean {
    return this.#expected === null || timingSafeEqual(this.#expected, digest(presented))
  }
}

/** Equal length for any input, so that neither content nor length shows in the time taken. */
function digest(text: string): Buffer {
  return createHash('sha256').update(text, 'utf8').digest()
}
