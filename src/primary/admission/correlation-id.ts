/**
 * The name of a request in answers (`X-Request-Id`), log lines and spans. What a client or a proxy in front gave it is kept, so that one name goes
 * through; otherwise it gets one that no other request of any replica has.
 */
import { randomBytes } from 'node:crypto'

/** Header of requests and answers, in lower case. */
export const CORRELATION_HEADER = 'x-request-id'

/** Names that can stand in any log or header, and are no longer than a line bears. */
const ACCEPTED = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/

/** Names the requests of one listener. A random part for the process and a number: a name costs no randomness. */
export class CorrelationIds {
  readonly #prefix = randomBytes(6).toString('hex')
  #next = 0

  /** The given name when it can be kept; empty stands for none. */
  nameFor(given: string): string {
    if (given !== '' && ACCEPTED.test(given)) return given
    return `${this.#prefix}-${(this.#next++).toString(36)}`
  }
}
