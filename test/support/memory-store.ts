/** A state store in the memory of the test. */
import { openLocalStore } from '../../src/shared/state/open.ts'
import type { SqlStore } from '../../src/shared/state/sql-store.ts'
import type { StorePolicy } from '../../src/shared/state/store.ts'

/** Opens an empty one; the caller closes it. `clock` answers Unix milliseconds. */
export function openMemoryStore(policy: StorePolicy, clock: () => number = Date.now): SqlStore {
  return openLocalStore(
    {
      type: 'memory',
      path: '',
      walEnabled: false,
      snapshotPath: null,
      snapshotIntervalMs: 60_000,
      refreshOnStartup: false,
      policy,
    },
    { clock },
  )
}
