/**
 * Judges whether the shared store can be used. One failed command proves nothing: only probes that fail in a row, for some time, make it
 * unavailable, and only probes that succeed in a row make it available again.
 */

/** Milliseconds between two probes while something is wrong. */
const SUSPICIOUS_PROBE_MS = 250
/** Probes that must fail in a row. */
const FAILURES_TO_FALL = 3
/** Probes that must succeed in a row. */
const SUCCESSES_TO_RISE = 2

/** What is known of the store's health. Times in Unix milliseconds. */
export interface StoreHealth {
  readonly isAvailable: boolean
  /** Of the last probe that succeeded, in milliseconds. */
  readonly latencyMs: number | null
  readonly lastSuccessAtMs: number | null
  readonly lastFailureAtMs: number | null
  /** When `isAvailable` last changed. */
  readonly sinceMs: number
}

/** What a monitor works with. */
export interface HealthMonitorParts {
  /** Uses the store as its users do; rejects when that fails. Must be bounded in time. */
  readonly probe: () => Promise<void>
  /** Milliseconds between two probes while all is well. */
  readonly intervalMs: number
  /** For how long probes must fail, in milliseconds. */
  readonly unavailableAfterMs: number
  /** Hears of each change of `isAvailable`, with the reason for a fall. */
  readonly onChange: (isAvailable: boolean, reason: string) => void
  /** Hears of a probe that was not answered in time: the connection may be stuck. */
  readonly onTimeout: () => void
}

/** See the file comment. */
export class HealthMonitor {
  readonly #parts: HealthMonitorParts
  #isAvailable: boolean
  #failures = 0
  #successes = 0
  #failingSinceMs: number | undefined
  #latencyMs: number | null = null
  #lastSuccessAtMs: number | null = null
  #lastFailureAtMs: number | null = null
  #sinceMs = Date.now()
  #timer: NodeJS.Timeout | undefined
  #isProbing = false
  #isHurrying = false
  #probedAtMs = 0
  #stopped = false

  /** `isAvailable` is what holds until the probes say something else. */
  constructor(parts: HealthMonitorParts, isAvailable: boolean) {
    this.#parts = parts
    this.#isAvailable = isAvailable
  }

  start(): void {
    void this.#probe()
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  get isAvailable(): boolean {
    return this.#isAvailable
  }

  get health(): StoreHealth {
    return {
      isAvailable: this.#isAvailable,
      latencyMs: this.#latencyMs,
      lastSuccessAtMs: this.#lastSuccessAtMs,
      lastFailureAtMs: this.#lastFailureAtMs,
      sinceMs: this.#sinceMs,
    }
  }

  /** Something else failed: looks soon, instead of when it is time. */
  suspect(): void {
    if (this.#stopped || this.#isProbing || this.#failures > 0 || this.#isHurrying) return
    this.#isHurrying = true
    this.#schedule(this.#probedAtMs + SUSPICIOUS_PROBE_MS - performance.now())
  }

  async #probe(): Promise<void> {
    this.#isProbing = true
    this.#isHurrying = false
    this.#probedAtMs = performance.now()
    try {
      await this.#parts.probe()
      this.#succeeded(performance.now() - this.#probedAtMs)
    } catch (error) {
      this.#failed(error instanceof Error ? error.message : String(error))
    }
    this.#isProbing = false
    if (this.#stopped) return
    const isWell = this.#isAvailable && this.#failures === 0
    this.#schedule(isWell ? this.#parts.intervalMs : SUSPICIOUS_PROBE_MS)
  }

  #schedule(delayMs: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => void this.#probe(), Math.max(0, delayMs))
  }

  #succeeded(latencyMs: number): void {
    this.#latencyMs = latencyMs
    this.#lastSuccessAtMs = Date.now()
    this.#failures = 0
    this.#failingSinceMs = undefined
    this.#successes++
    if (!this.#isAvailable && this.#successes >= SUCCESSES_TO_RISE) this.#change(true, '')
  }

  #failed(reason: string): void {
    const nowMs = performance.now()
    this.#lastFailureAtMs = Date.now()
    this.#successes = 0
    this.#failures++
    this.#failingSinceMs ??= nowMs
    if (isTimeout(reason)) this.#parts.onTimeout()
    if (
      this.#isAvailable &&
      this.#failures >= FAILURES_TO_FALL &&
      nowMs - this.#failingSinceMs >= this.#parts.unavailableAfterMs
    ) {
      this.#change(false, reason)
    }
  }

  #change(isAvailable: boolean, reason: string): void {
    if (this.#stopped) return
    this.#isAvailable = isAvailable
    this.#sinceMs = Date.now()
    this.#parts.onChange(isAvailable, reason)
  }
}

function isTimeout(reason: string): boolean {
  return /timed out/i.test(reason)
}
