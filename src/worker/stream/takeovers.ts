/** Works off abandoned streams, many at a time but not all: a replica that is lost may have held thousands. */
import { setTimeout as sleep } from 'node:timers/promises'

import type { StreamLease } from '../../shared/state/store.ts'

/** Streams that are being opened at a time. Few enough that other replicas get some, too. */
const MAX_AT_ONCE = 32
/** A stream counts as one of them for so long at most, in milliseconds: an upstream that keeps some waiting must not hold up the rest. */
const MAX_TURN_MS = 500

/** See the file comment. */
export class Takeovers {
  readonly #take: (lease: StreamLease) => Promise<void>
  readonly #waiting = new Map<string, StreamLease>()
  #active = 0
  #whenDone: () => void = () => {}

  /** `take` never rejects. */
  constructor(take: (lease: StreamLease) => Promise<void>) {
    this.#take = take
  }

  /** Takes leases in, in random order: other replicas try the same ones. `done` is called when none wait any more. */
  add(leases: readonly StreamLease[], done: () => void): void {
    this.#whenDone = done
    const shuffled = leases
      .map((lease) => ({ lease, at: Math.random() }))
      .toSorted((a, b) => a.at - b.at)
    for (const { lease } of shuffled)
      this.#waiting.set(`${lease.key.serverId}\n${lease.key.sessionId}`, lease)
    this.#fill()
  }

  /** Forgets what waits. */
  stop(): void {
    this.#waiting.clear()
    this.#whenDone = () => {}
  }

  #fill(): void {
    for (const [name, lease] of this.#waiting) {
      if (this.#active >= MAX_AT_ONCE) return
      this.#waiting.delete(name)
      this.#active++
      const turn = sleep(MAX_TURN_MS, undefined, { ref: false })
      void Promise.race([this.#take(lease), turn]).finally(() => {
        this.#active--
        this.#fill()
      })
    }
    const done = this.#whenDone
    this.#whenDone = () => {}
    setImmediate(done)
  }
}
