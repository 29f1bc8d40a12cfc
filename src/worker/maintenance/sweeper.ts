/**
 * Ends what has expired and removes what nobody owns: expired sessions and items as the store decides, then files that no record names. Safe to run
 * on several replicas at once: the store decides each item once, and removing a file twice is no error.
 */
/* oxlint-disable no-await-in-loop -- one after another on purpose: maintenance must not compete with what is served */
import { isTempName, type FileStore, type FoundItem } from '../../shared/files/file-store.ts'
import type { SessionKey, SessionRecord } from '../../shared/state/records.ts'
import type { StateStore, SweepReport } from '../../shared/state/store.ts'

/** How a sweeper works. */
export interface SweeperOptions {
  readonly store: StateStore
  readonly files: FileStore
  /** Time between the end of one run and the next; null: only `runOnce`. */
  readonly intervalMs: number | null
  readonly orphans: {
    readonly enabled: boolean
    /** Unowned files younger than this stay; periodic runs never use less than two minutes, for uploads that are still coming in. */
    readonly graceMs: number
  }
  /** Sessions with calls or uploads in flight: never idle. */
  readonly aliveSessions: () => readonly SessionKey[] | Promise<readonly SessionKey[]>
  /** Ends the upstream sessions of sessions that are gone. */
  readonly onSessionsEnded: (records: readonly SessionRecord[]) => Promise<void> | void
  readonly onReport?: (report: MaintenanceReport) => void
  /** A run failed as a whole (the store did not answer) or one file could not be removed. */
  readonly onError?: (error: unknown) => void
}

/** What one run did. */
export interface MaintenanceReport extends Omit<SweepReport, 'files' | 'sessions' | 'more'> {
  readonly finishedAtMs: number
  readonly durationMs: number
  readonly removedOrphanItems: number
  readonly removedOrphanSessions: number
  readonly removedTemporaryFiles: number
  /** Removals that failed; they are tried again as orphans. */
  readonly failures: number
}

const BATCH = 200
/** More than this is left for the next run, so that a run is bounded. */
const MAX_BATCHES = 500
const MIN_PERIODIC_GRACE_MS = 120_000

/** See the file comment. */
export class Sweeper {
  readonly #options: SweeperOptions
  #timer: NodeJS.Timeout | undefined
  #running: Promise<MaintenanceReport> | undefined
  #isStopping = false
  /** The last run that finished, for health; undefined before the first. */
  lastReport: MaintenanceReport | undefined

  constructor(options: SweeperOptions) {
    this.#options = options
  }

  /** Begins periodic runs, the first one an interval from now. */
  start(): void {
    const { intervalMs } = this.#options
    if (intervalMs === null || this.#isStopping || this.#timer !== undefined) return
    this.#timer = setTimeout(() => {
      this.runOnce()
        .catch((error: unknown) => this.#options.onError?.(error))
        .finally(() => {
          this.#timer = undefined
          this.start()
        })
    }, intervalMs)
    this.#timer.unref()
  }

  /**
   * Runs now, or answers the run that is under way. `orphanGraceMs` is taken as it is: 0 at start, after `recoverAfterCrash`, and only when no other
   * process uses the same root. Rejects when the store fails.
   */
  runOnce(options: { readonly orphanGraceMs?: number } = {}): Promise<MaintenanceReport> {
    const graceMs =
      options.orphanGraceMs ?? Math.max(this.#options.orphans.graceMs, MIN_PERIODIC_GRACE_MS)
    this.#running ??= this.#run(graceMs).finally(() => (this.#running = undefined))
    return this.#running
  }

  /** No run begins any more; the one under way ends after its present step. */
  async stop(): Promise<void> {
    this.#isStopping = true
    clearTimeout(this.#timer)
    await this.#running?.catch(() => undefined)
  }

  async #run(graceMs: number): Promise<MaintenanceReport> {
    const startedAtMs = Date.now()
    const totals = new Totals()
    await this.#sweepStore(totals)
    if (this.#options.orphans.enabled) await this.#sweepOrphans(totals, startedAtMs - graceMs)
    const finishedAtMs = Date.now()
    const report = { ...totals.counts, finishedAtMs, durationMs: finishedAtMs - startedAtMs }
    this.lastReport = report
    this.#options.onReport?.(report)
    return report
  }

  async #sweepStore(totals: Totals): Promise<void> {
    const { store, files, aliveSessions, onSessionsEnded } = this.#options
    for (let batch = 0; batch < MAX_BATCHES && !this.#isStopping; batch++) {
      const swept = await store.sweep(BATCH, await aliveSessions())
      totals.add(swept)
      for (const ref of swept.files) await this.#attempt(totals, () => files.removeItem(ref))
      for (const key of swept.sessions) await this.#attempt(totals, () => files.removeSession(key))
      if (swept.sessions.length > 0) {
        await this.#attempt(totals, async () => onSessionsEnded(swept.sessions))
      }
      if (!swept.more) return
    }
  }

  async #sweepOrphans(totals: Totals, olderThanMs: number): Promise<void> {
    for await (const key of this.#options.files.listSessions()) {
      if (this.#isStopping) return
      await this.#sweepSession(totals, key, olderThanMs)
    }
  }

  /** What is on disk is read before what is referenced, so that an item which is committed meanwhile is seen as referenced. */
  async #sweepSession(totals: Totals, key: SessionKey, olderThanMs: number): Promise<void> {
    const { store, files } = this.#options
    const items: FoundItem[] = []
    for await (const item of files.listItems(key)) items.push(item)
    const referenced = await store.referencedItems(key)
    if (referenced === undefined) {
      const changedAtMs = (await files.sessionMtimeMs(key)) ?? Number.POSITIVE_INFINITY
      const newestMs = Math.max(changedAtMs, ...items.map((item) => item.newestMtimeMs))
      if (newestMs > olderThanMs) return
      if (await this.#attempt(totals, () => files.removeSession(key)))
        totals.counts.removedOrphanSessions++
      return
    }
    const owned = { uploads: new Set(referenced.uploads), artifacts: new Set(referenced.artifacts) }
    for (const item of items) {
      if (owned[item.ref.kind].has(item.ref.id)) {
        await this.#sweepTemporary(totals, item, olderThanMs)
      } else if (item.newestMtimeMs <= olderThanMs) {
        const isRemoved = await this.#attempt(totals, () => files.removeItem(item.ref))
        if (isRemoved) totals.counts.removedOrphanItems++
      }
    }
  }

  async #sweepTemporary(totals: Totals, item: FoundItem, olderThanMs: number): Promise<void> {
    for (const file of item.files) {
      if (!isTempName(file.name) || file.mtimeMs > olderThanMs) continue
      const remove = () => this.#options.files.removeTemp(item.ref, file.name)
      if (await this.#attempt(totals, remove)) totals.counts.removedTemporaryFiles++
    }
  }

  /** One removal that fails must not keep the rest from being removed. */
  async #attempt(totals: Totals, work: () => Promise<void>): Promise<boolean> {
    try {
      await work()
      return true
    } catch (error) {
      totals.counts.failures++
      this.#options.onError?.(error)
      return false
    }
  }
}

class Totals {
  readonly counts = {
    expiredSessions: 0,
    tombstonedSessions: 0,
    removedTombstones: 0,
    removedUploads: 0,
    removedArtifacts: 0,
    removedOrphanItems: 0,
    removedOrphanSessions: 0,
    removedTemporaryFiles: 0,
    failures: 0,
  }

  add(swept: SweepReport): void {
    this.counts.expiredSessions += swept.expiredSessions
    this.counts.tombstonedSessions += swept.tombstonedSessions
    this.counts.removedTombstones += swept.removedTombstones
    this.counts.removedUploads += swept.removedUploads
    this.counts.removedArtifacts += swept.removedArtifacts
  }
}
