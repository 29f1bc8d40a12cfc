/**
 * The places that a session's requests take here of `sessions.max_in_flight_per_session`, where the store counts them over all replicas. A lease is
 * asked for with some places to spare, so that most requests find one without asking; near the limit there is nothing to spare, and each asks.
 */
import { randomBytes } from 'node:crypto'

import { CALL_LEASE_MS } from '../../shared/state/local-options.ts'
import type { SessionKey } from '../../shared/state/records.ts'
import type { StateStore } from '../../shared/state/store.ts'

/** Places asked for beyond need: a session rarely has more requests at a time. */
const SPARE = 7
/** Questions to the store while others are giving back what they do not use, and the time between two, in milliseconds. */
const MAX_TRIES = 8
const RETRY_MS = 15
/**
 * Places are given to requests for so long after the question that brought them, in milliseconds: less than any lease lasts. Whether it was renewed
 * since is not known here: a process that was paused, or cut off from the store, may have lost it.
 */
const GRANT_LIFE_MS = CALL_LEASE_MS - 1_000

/** Why requests got no places. */
export type PlacesRefused = 'at_limit' | 'session_gone'

/** See the file comment. One for each session that has requests under way, owned by one event loop. */
export class CallPlaces {
  readonly #store: StateStore
  readonly #key: SessionKey
  readonly #clock: () => number
  /** The lease, while the store may know it. */
  #lease: string | undefined
  /** Places of the lease that requests have. */
  #used = 0
  #granted = 0
  #grantEndsAtMs = 0
  #asking: Promise<void> | undefined
  /** Whether there was nothing to spare when somebody asked: others may be waiting for each place. */
  #isTight = false
  #isUsedSinceTrim = false

  /** `clock` is monotonic, in milliseconds. */
  constructor(store: StateStore, key: SessionKey, clock: () => number = performanceNow) {
    this.#store = store
    this.#key = key
    this.#clock = clock
  }

  /** The lease for the store to keep; undefined when there is none. */
  get lease(): string | undefined {
    return this.#lease
  }

  /** Takes places at once when the lease has them; false when `enter` has to ask. */
  tryEnter(count: number): boolean {
    if (this.#asking !== undefined || this.#used + count > this.#granted) return false
    if (this.#clock() > this.#grantEndsAtMs) return false
    this.#take(count)
    return true
  }

  /** Takes places; resolves with why not when there are none. Rejects when the store fails. */
  async enter(count: number): Promise<PlacesRefused | undefined> {
    for (let tries = 0; ;) {
      if (this.tryEnter(count)) return undefined
      if (this.#asking !== undefined) {
        // One question at a time; its answer may have room for this too.
        await this.#asking.catch(() => undefined)
        continue
      }
      const answer = await this.#ask(this.#used + count, SPARE)
      if (answer === 'at_limit' || answer === 'session_gone') return answer
      if (answer !== 'wait') continue
      if (++tries === MAX_TRIES) return 'at_limit'
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
    }
  }

  /** Gives places back. */
  leave(count: number): void {
    this.#used -= count
    if (this.#isTight) this.giveBack()
  }

  /** Gives up what was not used since the last call of this; the session's clock calls it. */
  rest(): void {
    if (!this.#isUsedSinceTrim && this.#used === 0) this.#shrink()
    this.#isUsedSinceTrim = false
  }

  /** Somebody needs places: gives up all that are not used. */
  giveBack(): void {
    this.#isTight = true
    if (this.#granted > this.#used) this.#shrink()
  }

  /** Ends the lease, whatever it has. */
  end(): void {
    this.#used = 0
    this.#shrink()
  }

  #take(count: number): void {
    this.#used += count
    this.#isUsedSinceTrim = true
  }

  /** Asks for a lease of `count` places. */
  async #ask(count: number, spare: number): Promise<number | 'wait' | PlacesRefused> {
    const lease = (this.#lease ??= randomBytes(9).toString('base64url'))
    const grantEndsAtMs = this.#clock() + GRANT_LIFE_MS
    const question = this.#store.enterCalls(this.#key, lease, count, spare)
    const settled = question.then(
      (answer) => {
        if (typeof answer !== 'number') {
          this.#isTight = true
          return
        }
        this.#granted = answer
        this.#grantEndsAtMs = grantEndsAtMs
        this.#isTight = answer < count + spare
      },
      () => {
        // The store may have granted them: what is used stays, and nobody is let in on what is not known.
        this.#granted = this.#used
        this.#isTight = true
      },
    )
    this.#asking = settled
    try {
      await settled
    } finally {
      this.#asking = undefined
    }
    // When those who waited for the answer have taken theirs: places that were given back meanwhile are of use to others.
    if (this.#isTight) setImmediate(() => this.giveBack())
    return question
  }

  /** Makes the lease as large as what is used. What can't be given back now is free when the lease ends. */
  #shrink(): void {
    const lease = this.#lease
    // A question under way is answered first.
    if (lease === undefined || this.#asking !== undefined) return
    this.#granted = this.#used
    if (this.#used === 0) {
      this.#lease = undefined
      this.#isTight = false
      this.#store.leaveCalls(this.#key, lease).catch(() => undefined)
    } else {
      this.#store.enterCalls(this.#key, lease, this.#used, 0).catch(() => undefined)
    }
  }
}

function performanceNow(): number {
  return performance.now()
}
