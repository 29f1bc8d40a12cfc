/** What is done at a replica's start, before anything is served: a crash may have left open reservations, half-written files, or lost records. */
import type { Config } from '../../shared/config/config.ts'
import type { FileStore } from '../../shared/files/file-store.ts'
import type { StateStore } from '../../shared/state/store.ts'
import type { DigestPool } from '../files/digest-pool.ts'
import { UNCONTESTED, type Tenure } from './maintenance-lock.ts'
import { reconcile, type ReconciliationReport } from './reconciliation.ts'
import type { Sweeper } from './sweeper.ts'

/** What clearing up works with. */
export interface StartUpParts {
  readonly config: Pick<Config, 'servers' | 'statePersistence'>
  readonly store: StateStore
  readonly files: FileStore
  readonly digests: DigestPool
}

/** Makes store and files agree where this replica has both to itself. Rejects when the store fails. */
export async function clearUp(
  parts: StartUpParts & { readonly sweeper: Sweeper },
): Promise<ReconciliationReport> {
  const { config, store, files, sweeper } = parts
  for (const ref of await store.recoverAfterCrash()) {
    // oxlint-disable-next-line no-await-in-loop -- a handful at most: what was under way at the crash
    await files.removeItem(ref)
  }
  const report = await reconcileAll(parts, UNCONTESTED, null)
  // On disk a record is committed before anything is acknowledged: a file without one is what a crash cut off. Where files were just adopted, it
  // is one that could not be; and a snapshot in a file may be older than what was acknowledged.
  const removesUnrecorded = config.statePersistence.type === 'disk' && report.outcome !== 'done'
  await sweeper.runAtStart(UNCONTESTED, { removesUnrecorded })
  return report
}

/**
 * Gives files their records back where other replicas use store and files at the same time; removes nothing, because what looks abandoned may be
 * theirs. `settledBeforeMs` is a time on the clock of the file system, before which what others do had its effects.
 */
export async function adoptUnderTenure(
  parts: StartUpParts,
  tenure: Tenure,
  settledBeforeMs: number,
): Promise<ReconciliationReport> {
  return reconcileAll(parts, tenure, settledBeforeMs)
}

function reconcileAll(
  { config, store, files, digests }: StartUpParts,
  tenure: Tenure,
  settledBeforeMs: number | null,
): Promise<ReconciliationReport> {
  return reconcile({
    mode: modeOf(config.statePersistence),
    tenure,
    store,
    files,
    digests,
    serverIds: config.servers.map((server) => server.id),
    legacyServerId: config.statePersistence.reconciliation.legacyServerId,
    settledBeforeMs,
  })
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
