/** How long a stream is read without a client, and when one that the upstream ended meanwhile is opened again. */

/** Wait before it is, in milliseconds; doubled each time up to the longest. */
const REOPEN_WAIT_MS = 100
const MAX_REOPEN_WAIT_MS = 5_000

/** See the file comment. Both timers end with `stop`. */
export class AloneClock {
  #lingerTimer: NodeJS.Timeout | undefined
  #reopenTimer: NodeJS.Timeout | undefined
  #reopenings = 0

  /** Calls back when no client has come for `ms`; starts over each time. */
  linger(ms: number, over: () => void): void {
    clearTimeout(this.#lingerTimer)
    this.#lingerTimer = setTimeout(over, ms)
    this.#lingerTimer.unref()
  }

  /** Calls back when it is time to open the stream again. */
  reopen(open: () => void): void {
    const waitMs = Math.min(MAX_REOPEN_WAIT_MS, REOPEN_WAIT_MS * 2 ** this.#reopenings++)
    clearTimeout(this.#reopenTimer)
    this.#reopenTimer = setTimeout(open, waitMs)
    this.#reopenTimer.unref()
  }

  /** A stream was open for so long. A short one counts as a failure: some upstreams end at once what they accepted. */
  wasOpen(ms: number): void {
    if (ms > MAX_REOPEN_WAIT_MS) this.#reopenings = 0
  }

  stop(): void {
    clearTimeout(this.#lingerTimer)
    clearTimeout(this.#reopenTimer)
  }
}
