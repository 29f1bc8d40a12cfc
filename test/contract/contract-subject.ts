/** What a contract runs against. */
import type { Test } from 'tap'

import type { StateStore, StorePolicy } from '../../src/shared/state/store.ts'

/** One opened store and its clock. */
interface ContractSubject {
  readonly store: StateStore
  /** Moves the store's clock. */
  readonly advance: (ms: number) => void
  /** Whether other processes use the store at the same time; absent is false. */
  readonly isShared?: boolean
}

/** Opens an empty store; whatever it opens it closes when `t` ends. */
export type ContractOpener = (t: Test, policy: StorePolicy) => Promise<ContractSubject>
