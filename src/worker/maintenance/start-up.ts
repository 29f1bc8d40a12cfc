/** What is done once at a replica's start, before anything is served: a crash may have left open reservations, half-written files, or lost records. */
import type { Config } from '../../shared/config/config.ts'
import type { FileStore } from '../../shared/files/file-store.ts'
import type { StateStore } from '../../shared/state/store.ts'
import type { DigestPool } from '../files/digest-pool.ts'
import { reconcile, type ReconciliationReport } from './reconciliation.ts'
import type { Sweeper } from './sweeper.ts'

/** What clearing up works with. */
export interface StartUpParts {
  readonly config: Pick<Config, 'servers' | 'statePersistence'>
  readonly store: StateStore
  readonly files: FileStore
  readonly digests: DigestPool
  readonly sweeper: Sweeper
}

/** Makes store and files agree. Rejects when the store fails. */
export async function clearUp(parts: StartUpParts): Promise<ReconciliationReport> {
  const { config, store, files, digests, sweeper } = parts
  for (const ref of await store.recoverAfterCrash()) {
    // oxlint-disable-next-line no-await-in-loop -- a handful at most: what was under way at the crash
    await files.removeItem(ref)
  }
  const report = await reconcile({
    mode: modeOf(config.statePersistence),
    store,
    files,
    digests,
    serverIds: config.servers.map((server) => server.id),
    legacyServerId: config.statePersistence.reconciliation.legacyServerId,
  })
  // On disk a record is committed before anything is acknowledged: a file without one is what a crash cut off. Where files were just adopted, it
  // is one that could not be; and a snapshot in a file may be older than what was acknowledged.
  const removesUnrecorded = config.statePersistence.type === 'disk' && report.outcome !== 'done'
  await sweeper.runAtStart({ removesUnrecorded })
  return report
}

function modeOf({
  type,
  refreshOnStartup,
  reconciliation: { mode },
}: Config['statePersistence']): typeof mode {
  if (mode !== 'if_empty') return mode
  // A store that was emptied on purpose is not filled again from the files, unless that was asked for too.
  if (refreshOnStartup) return 'disabled'
  // What was acknowledged after the last snapshot is only in the files.
  return type === 'memory' ? 'always' : mode
}
