/** How long a lease is surely still ours, judged by this process alone: whoever grants it counts by another clock, and a process can be paused. */

/** Milliseconds of two clocks. */
export interface Clock {
  /** Never goes back; stands still while the machine sleeps. */
  monotonicMs(): number
  /** Unix time; may jump. */
  wallMs(): number
}

export const SYSTEM_CLOCK: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
}

/** A point in time on both clocks. */
export interface Moment {
  readonly monotonicMs: number
  readonly wallMs: number
}

/** The part of a lease that is not relied upon: clocks run at different speeds, and what was begun takes a moment to be done. */
const MARGIN = 0.2

/** Remembers when a lease was last confirmed. */
export class Lease {
  readonly #surelyMs: number
  readonly #clock: Clock
  #confirmed: Moment | undefined

  constructor(leaseMs: number, clock: Clock) {
    this.#surelyMs = leaseMs * (1 - MARGIN)
    this.#clock = clock
  }

  /** Whether nobody else can have got it. */
  get isSure(): boolean {
    return this.#confirmed !== undefined && this.#isRecent(this.#confirmed)
  }

  /** To be taken before the lease is asked for: it may begin at any time from then on. */
  now(): Moment {
    return { monotonicMs: this.#clock.monotonicMs(), wallMs: this.#clock.wallMs() }
  }

  /** Notes that the lease was granted or renewed after `askedAt`; false when that is too long ago to rely on. */
  confirm(askedAt: Moment): boolean {
    this.#confirmed = this.#isRecent(askedAt) ? askedAt : undefined
    return this.#confirmed !== undefined
  }

  end(): void {
    this.#confirmed = undefined
  }

  /** Whichever clock says that more time has passed is believed: the first stands still while the machine sleeps, the second can be set back. */
  #isRecent({ monotonicMs, wallMs }: Moment): boolean {
    const now = this.now()
    return Math.max(now.monotonicMs - monotonicMs, now.wallMs - wallMs) < this.#surelyMs
  }
}
