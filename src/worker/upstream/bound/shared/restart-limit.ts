/** When something that ends by itself may be started again: with growing pauses, and a number of times within a window. */
import { AdapterError } from '../../../../shared/errors.ts'

const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 5_000

/** See the file comment. */
export class RestartLimit {
  readonly #maxRestarts: number
  readonly #windowMs: number
  /** When it ended, in milliseconds of `performance.now`. */
  #ends: number[] = []

  constructor(maxRestarts: number, windowMs: number) {
    this.#maxRestarts = maxRestarts
    this.#windowMs = windowMs
  }

  /** How often it ended within the window. */
  get count(): number {
    const since = performance.now() - this.#windowMs
    this.#ends = this.#ends.filter((atMs) => atMs > since)
    return this.#ends.length
  }

  ended(): void {
    this.#ends.push(performance.now())
  }

  /** How long to wait before the next start, in milliseconds. Throws ADAPTER_UPSTREAM_UNREACHABLE when there may be none now. */
  pauseMs(): number {
    const { count } = this
    if (count > this.#maxRestarts) {
      const seconds = this.#windowMs / 1_000
      throw new AdapterError(
        'ADAPTER_UPSTREAM_UNREACHABLE',
        `the process of the upstream server ended ${count} times within ${seconds} s and is not started again for now (upstream.max_restarts)`,
      )
    }
    const last = this.#ends.at(-1)
    if (last === undefined) return 0
    const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (count - 1))
    return Math.max(0, last + pause - performance.now())
  }
}
