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

/** What was last changed at these times or before goes, in Unix milliseconds; infinite ones mean all and nothing. */
interface Cutoffs {
  readonly temporaryMs: number
  /** For items without a record, of sessions that the store knows. */
  readonly itemsMs: number
  /** For sessions that the store does not know. */
  readonly sessionsMs: number
}

const ALL = Number.POSITIVE_INFINITY
const NOTHING = Number.NEGATIVE_INFINITY

/** See the file comment. */
export class Sweeper {
  readonly #options: SweeperOptions
  #timer: NodeJS.Timeout | undefined
  #running: Promise<MaintenanceReport> | undefined
  #isStopping = false
  /** Until then what was found unowned at start stays. */
  #heldUntilMs = 0
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
   * Runs now, or answers the run that is under way. `orphanGraceMs` is taken as it is, only right when no other process uses the same root.
   * Rejects when the store fails.
   */
  runOnce(options: { readonly orphanGraceMs?: number } = {}): Promise<MaintenanceReport> {
    const graceMs =
      options.orphanGraceMs ?? Math.max(this.#options.orphans.graceMs, MIN_PERIODIC_GRACE_MS)
    const nowMs = Date.now()
    const olderThanMs = nowMs - graceMs
    const orphansMs = nowMs < this.#heldUntilMs ? NOTHING : olderThanMs
    return this.#begin({ temporaryMs: olderThanMs, itemsMs: orphansMs, sessionsMs: orphansMs })
  }

  /**
   * The run after a crash, before anything is served and while no other process uses the same root: temporary files go at once, and with
   * `removesUnrecorded` items without a record of known sessions, which nobody was told of. What else is unowned gets the configured grace counted
   * from now, whatever its age: the state may have been lost, not the files. Rejects when the store fails.
   */
  runAtStart(options: { readonly removesUnrecorded: boolean }): Promise<MaintenanceReport> {
    const { graceMs } = this.#options.orphans
    this.#heldUntilMs = Date.now() + graceMs
    const orphansMs = graceMs === 0 ? ALL : NOTHING
    const itemsMs = options.removesUnrecorded ? ALL : orphansMs
    return this.#begin({ temporaryMs: ALL, itemsMs, sessionsMs: orphansMs })
  }

  /** No run begins any more; the one under way ends after its present step. */
  async stop(): Promise<void> {
    this.#isStopping = true
    clearTimeout(this.#timer)
    await this.#running?.catch(() => undefined)
  }

  #begin(cutoffs: Cutoffs): Promise<MaintenanceReport> {
    this.#running ??= this.#run(cutoffs).finally(() => (this.#running = undefined))
    return this.#running
  }

  async #run(cutoffs: Cutoffs): Promise<MaintenanceReport> {
    const startedAtMs = Date.now()
    const totals = new Totals()
    await this.#sweepStore(totals)
    if (this.#options.orphans.enabled) await this.#sweepOrphans(totals, cutoffs)
    const finishedAtMs = Date.now()
    const report = { ...totals.counts, finishedAtMs, durationMs: finishedAtMs - startedAtMs }
    this.lastReport = report
    this.#options.onReport?.(report)
    return report
  }

  async #sweepStore(totals: Totals): Promise<void> {
    const { store, files, aliveSessions, onSessionsEnded } = this.#options
    for (let batch = 0; batch < MAX_BATCHES && !this.#isStopping; batch++) {
      const swept = await store.sweep(BATCH, await aliveSessions(), null)
      if (swept === 'fenced') return
      totals.add(swept)
      for (const ref of swept.files) await this.#attempt(totals, () => files.removeItem(ref))
      for (const key of swept.sessions) await this.#attempt(totals, () => files.removeSession(key))
      if (swept.sessions.length > 0) {
        await this.#attempt(totals, async () => onSessionsEnded(swept.sessions))
      }
      if (!swept.more) return
    }
  }

  async #sweepOrphans(totals: Totals, cutoffs: Cutoffs): Promise<void> {
    for await (const key of this.#options.files.listSessions()) {
      if (this.#isStopping) return
      await this.#sweepSession(totals, key, cutoffs)
    }
  }

  /** What is on disk is read before what is referenced, so that an item which is committed meanwhile is seen as referenced. */
  async #sweepSession(totals: Totals, key: SessionKey, cutoffs: Cutoffs): Promise<void> {
    const { store, files } = this.#options
    const items: FoundItem[] = []
    for await (const item of files.listItems(key)) items.push(item)
    const referenced = await store.referencedItems(key)
    if (referenced === undefined) {
      const changedAtMs = (await files.sessionMtimeMs(key)) ?? Number.POSITIVE_INFINITY
      const newestMs = Math.max(changedAtMs, ...items.map((item) => item.newestMtimeMs))
      if (newestMs > cutoffs.sessionsMs) {
        for (const item of items) await this.#sweepTemporary(totals, item, cutoffs.temporaryMs)
      } else if (await this.#attempt(totals, () => files.removeSession(key))) {
        totals.counts.removedOrphanSessions++
      }
      return
    }
    const owned = { uploads: new Set(referenced.uploads), artifacts: new Set(referenced.artifacts) }
    for (const item of items) {
      const isOwned = owned[item.ref.kind].has(item.ref.id)
      if (isOwned || item.newestMtimeMs > cutoffs.itemsMs) {
        await this.#sweepTemporary(totals, item, cutoffs.temporaryMs)
      } else if (await this.#attempt(totals, () => files.removeItem(item.ref))) {
        totals.counts.removedOrphanItems++
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
