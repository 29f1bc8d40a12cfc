/** Shows what the store holds, and what it may hold at most: the same on all replicas that share it. */
import type { Config } from '../shared/config/config.ts'
import type { Inventory } from '../shared/state/store.ts'
import type { Recorder } from '../shared/telemetry/recorder.ts'

/** What is looked at. */
export interface StoreMetricsSources {
  readonly config: Pick<Config, 'sessions' | 'storage'>
  /** May reject, or take as long as it likes: what was known before is shown meanwhile. */
  readonly inventory: () => Promise<Inventory>
}

/** Has the store asked whenever counts are handed on. What it answers is shown the next time, as nothing waits for it. */
export function countStored(recorder: Recorder, { config, inventory }: StoreMetricsSources): void {
  const { maxActive } = config.sessions
  const { maxSize } = config.storage
  if (maxActive !== null) recorder.set('adapter_sessions_limit', {}, maxActive)
  if (maxSize !== null) recorder.set('adapter_stored_limit_bytes', {}, maxSize)
  let isAsking = false
  const ask = async (): Promise<void> => {
    if (isAsking) return
    isAsking = true
    try {
      show(recorder, await inventory())
    } catch {
      // Health and the log tell of a store that does not answer.
    }
    isAsking = false
  }
  void ask()
  recorder.beforeReport(() => void ask())
}

function show(recorder: Recorder, inventory: Inventory): void {
  recorder.set('adapter_sessions', { standing: 'active' }, inventory.sessions)
  recorder.set('adapter_sessions', { standing: 'tombstoned' }, inventory.tombstones)
  recorder.set('adapter_stored_files', { kind: 'upload' }, inventory.uploads)
  recorder.set('adapter_stored_files', { kind: 'artifact' }, inventory.artifacts)
  recorder.set('adapter_stored_bytes', { kind: 'kept' }, inventory.bytes)
  recorder.set('adapter_stored_bytes', { kind: 'reserved' }, inventory.reservedBytes)
}
