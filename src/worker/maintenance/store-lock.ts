/** The lock as the state store keeps it: over all replicas when they share the store, else over this process. */
import type { StateStore } from '../../shared/state/store.ts'
import type { LockKeeper } from './maintenance-lock.ts'

/** See the file comment. The store checks the tokens. */
export class StoreLock implements LockKeeper {
  readonly isFencing = true
  readonly leaseMs: number
  readonly #store: StateStore
  readonly #holder: string

  constructor(store: StateStore, holder: string, leaseMs: number) {
    this.#store = store
    this.#holder = holder
    this.leaseMs = leaseMs
  }

  claim(): Promise<number | null> {
    return this.#store.electMaintainer(this.#holder, this.leaseMs)
  }

  resign(): Promise<void> {
    return this.#store.resignMaintainer(this.#holder)
  }
}
