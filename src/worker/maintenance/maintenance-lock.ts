/** Who maintains: at most one at a time, over everything that shares the lock, also when one of them is paused for longer than its lease. */
import { Lease, SYSTEM_CLOCK, type Clock } from './lease.ts'

/** One unbroken time as the maintainer. */
export interface Tenure {
  /** What the store checks each change against; null when it does not. */
  readonly fence: number | null
  /** Whether nobody else can be the maintainer now. Once false, false for ever. */
  readonly holds: boolean
  /** Extends it; false when it is over. Rejects when whoever keeps the lock does not answer. */
  renew(): Promise<boolean>
}

/** Takes part in the election. */
export interface MaintenanceLock {
  /** Becomes or stays the maintainer; undefined while somebody else is. Rejects when whoever keeps the lock does not answer. */
  hold(): Promise<Tenure | undefined>
  /** Ends the present tenure without telling anybody: what it was granted by is not what answers now. */
  forget(): void
  /** Gives the lock back, for the next to take at once; it can't be taken again here. */
  release(): Promise<void>
}

/** What keeps a lock for a lease at a time. */
export interface LockKeeper {
  readonly leaseMs: number
  /** Takes the lock, or renews it under the token `held`; answers the token, which grows each time somebody takes it, or null: somebody else has it. */
  claim(held: number | null): Promise<number | null>
  /** Ends the lease of this token. */
  resign(token: number): Promise<void>
  /** Whether the store knows the tokens. */
  readonly isFencing: boolean
}

/** The tenure of who needs no lock. */
export const UNCONTESTED: Tenure = {
  fence: null,
  holds: true,
  renew: () => Promise.resolve(true),
}

/** Keeps nobody out (`storage.lock_mode: none`; also `process` where each process is alone with its threads anyway). */
export class NoLock implements MaintenanceLock {
  hold(): Promise<Tenure | undefined> {
    return Promise.resolve(UNCONTESTED)
  }

  forget(): void {}

  release(): Promise<void> {
    return Promise.resolve()
  }
}

/** A lock that has to be renewed. */
export class LeasedLock implements MaintenanceLock {
  readonly #keeper: LockKeeper
  readonly #lease: Lease
  #tenure: LeasedTenure | undefined
  #asking: Promise<Tenure | undefined> | undefined
  #isReleased = false
  #forgotten = 0

  constructor(keeper: LockKeeper, clock: Clock = SYSTEM_CLOCK) {
    this.#keeper = keeper
    this.#lease = new Lease(keeper.leaseMs, clock)
  }

  hold(): Promise<Tenure | undefined> {
    this.#asking ??= this.#ask().finally(() => (this.#asking = undefined))
    return this.#asking
  }

  forget(): void {
    this.#forgotten++
    this.#end()
  }

  async release(): Promise<void> {
    this.#isReleased = true
    await this.#asking?.catch(() => undefined)
    const tenure = this.#current()
    this.#end()
    if (tenure !== undefined) await this.#keeper.resign(tenure.token)
  }

  /** The tenure that surely lasts. */
  #current(): LeasedTenure | undefined {
    return this.#lease.isSure ? this.#tenure : undefined
  }

  async #ask(): Promise<Tenure | undefined> {
    if (this.#isReleased) return undefined
    const askedAt = this.#lease.now()
    const forgotten = this.#forgotten
    const held = this.#current()
    if (held === undefined) this.#end()
    const token = await this.#keeper.claim(held?.token ?? null)
    // What was renewed only after its time was over may have been somebody else's in between: it is claimed anew, under another token.
    const isOver = held !== undefined && this.#current() !== held
    const isForgotten = forgotten !== this.#forgotten
    if (token === null || isOver || isForgotten || !this.#lease.confirm(askedAt)) {
      this.#end()
      return undefined
    }
    if (token !== held?.token) this.#tenure = this.#begin(token)
    return this.#tenure
  }

  #end(): void {
    this.#lease.end()
    this.#tenure = undefined
  }

  #begin(token: number): LeasedTenure {
    const tenure: LeasedTenure = new LeasedTenure(
      token,
      this.#keeper.isFencing,
      () => this.#current() === tenure,
      async () => (await this.hold()) === tenure,
    )
    return tenure
  }
}

class LeasedTenure implements Tenure {
  readonly token: number
  readonly fence: number | null
  readonly #isCurrent: () => boolean
  readonly renew: () => Promise<boolean>

  constructor(
    token: number,
    isFencing: boolean,
    isCurrent: () => boolean,
    renew: () => Promise<boolean>,
  ) {
    this.token = token
    this.fence = isFencing ? token : null
    this.#isCurrent = isCurrent
    this.renew = renew
  }

  get holds(): boolean {
    return this.#isCurrent()
  }
}
