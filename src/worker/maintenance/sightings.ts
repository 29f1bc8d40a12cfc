/** Since when this process has been seeing each thing that is on disk and has no owner. */
import type { Clock } from './lease.ts'

/** Notes are made by rounds: what a whole round did not see is forgotten. */
export class Sightings {
  readonly #clock: Clock
  #seen = new Map<string, number>()
  #round = new Map<string, number>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Notes that something was seen; answers for how many milliseconds it has been, 0 the first time. */
  note(name: string): number {
    const nowMs = this.#clock.monotonicMs()
    const sinceMs = this.#seen.get(name) ?? this.#round.get(name) ?? nowMs
    this.#round.set(name, sinceMs)
    return nowMs - sinceMs
  }

  /** Ends a round. One that did not see everything forgets nothing. */
  endRound(sawEverything: boolean): void {
    this.#seen = sawEverything ? this.#round : new Map([...this.#seen, ...this.#round])
    this.#round = new Map()
  }
}
