/**
 * Ends what has expired and removes what nobody owns: expired sessions and items as the store decides, then files that no record names. A run belongs
 * to a tenure of the maintainer and ends with it: nothing is removed after somebody else may have taken over.
 *
 * That no file of a live, pending or tombstoned record is removed depends on no clock. What is on disk is listed before the store is asked; an artifact
 * has its record before it has a directory, and what an upload is about to commit belongs to a session that `isReserving`. So what has no record then
 * never gets one. The grace period is for people and for state that was lost.
 */
/* oxlint-disable no-await-in-loop -- one after another on purpose: maintenance must not compete with what is served */
import type { FileStore } from '../../shared/files/file-store.ts'
import { isTempName } from '../../shared/files/layout.ts'
import type { FoundItem } from '../../shared/files/stored-items.ts'
import type { SessionKey, SessionRecord } from '../../shared/state/records.ts'
import type { StateStore, SweepReport } from '../../shared/state/store.ts'
import { SYSTEM_CLOCK, type Clock } from './lease.ts'
import type { Tenure } from './maintenance-lock.ts'
import { Sightings } from './sightings.ts'

/** How a sweeper works. */
export interface SweeperOptions {
  readonly store: StateStore
  readonly files: FileStore
  readonly orphans: {
    readonly enabled: boolean
    /** Unowned files younger than this stay; periodic runs never use less than two minutes, for temporary files that are still written to. */
    readonly graceMs: number
  }
  /** What the ages of files are told by: the clock of the file system that they are on. */
  readonly fileClock: { nowMs(): Promise<number> }
  /** Whether the store knows all sessions whose files are there; while it does not, nothing counts as unowned. */
  readonly knowsAll?: () => boolean
  /** Sessions with calls or uploads in flight here: never idle. */
  readonly aliveSessions: () => readonly SessionKey[]
  /** Ends the upstream sessions of sessions that are gone. */
  readonly onSessionsEnded: (records: readonly SessionRecord[]) => Promise<void> | void
  /** One file could not be removed. */
  readonly onError?: (error: unknown) => void
  readonly clock?: Clock
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
  /** Whether it was cut short: somebody else may be the maintainer, or the sweeper was stopped. */
  readonly endedEarly: boolean
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
  /** How long both must have been seen without an owner, whatever their age. */
  readonly unownedForMs: number
}

const ALL = Number.POSITIVE_INFINITY
const NOTHING = Number.NEGATIVE_INFINITY

/** Somebody else may be the maintainer now, the store does not know everything any more, or this process is stopping. */
class TenureOverError extends Error {}

/** See the file comment. */
export class Sweeper {
  readonly #options: SweeperOptions
  readonly #clock: Clock
  #running: Promise<MaintenanceReport> | undefined
  readonly #sightings: Sightings
  #isStopping = false

  constructor(options: SweeperOptions) {
    this.#options = options
    this.#clock = options.clock ?? SYSTEM_CLOCK
    this.#sightings = new Sightings(this.#clock)
  }

  /**
   * Runs now, or answers the run that is under way. What is unowned gets its grace from when this sweeper first saw it, and from its last change:
   * the state may have been lost a moment ago, and not the files. Rejects when the store fails, or the clock of the file system can't be read.
   */
  runOnce(tenure: Tenure): Promise<MaintenanceReport> {
    return this.#begin(tenure, async () => {
      const graceMs = Math.max(this.#options.orphans.graceMs, MIN_PERIODIC_GRACE_MS)
      const olderThanMs = (await this.#options.fileClock.nowMs()) - graceMs
      return {
        temporaryMs: olderThanMs,
        itemsMs: olderThanMs,
        sessionsMs: olderThanMs,
        unownedForMs: graceMs,
      }
    })
  }

  /**
   * The run after a crash, before anything is served and while no other process uses the same root: temporary files go at once, and with
   * `removesUnrecorded` items without a record of known sessions, which nobody was told of. What else is unowned gets its grace from now on. Rejects
   * when the store fails.
   */
  runAtStart(
    tenure: Tenure,
    options: { readonly removesUnrecorded: boolean },
  ): Promise<MaintenanceReport> {
    const sessionsMs = this.#options.orphans.graceMs === 0 ? ALL : NOTHING
    const itemsMs = options.removesUnrecorded ? ALL : sessionsMs
    return this.#begin(tenure, () =>
      Promise.resolve({ temporaryMs: ALL, itemsMs, sessionsMs, unownedForMs: 0 }),
    )
  }

  /** No run begins any more; the one under way ends after its present step. */
  async stop(): Promise<void> {
    this.#isStopping = true
    await this.#running?.catch(() => undefined)
  }

  #begin(tenure: Tenure, cutoffs: () => Promise<Cutoffs>): Promise<MaintenanceReport> {
    this.#running ??= this.#run(tenure, cutoffs).finally(() => (this.#running = undefined))
    return this.#running
  }

  async #run(tenure: Tenure, cutoffs: () => Promise<Cutoffs>): Promise<MaintenanceReport> {
    const startedAtMs = this.#clock.monotonicMs()
    const run: Run = { tenure, totals: new Totals() }
    let isWhole = false
    try {
      await this.#sweepStore(run)
      if (this.#options.orphans.enabled) await this.#sweepOrphans(run, await cutoffs())
      isWhole = true
    } catch (error) {
      if (!(error instanceof TenureOverError)) throw error
    } finally {
      this.#sightings.endRound(isWhole)
    }
    return {
      ...run.totals.counts,
      endedEarly: !isWhole,
      finishedAtMs: this.#clock.wallMs(),
      durationMs: this.#clock.monotonicMs() - startedAtMs,
    }
  }

  async #sweepStore(run: Run): Promise<void> {
    const { store, files, aliveSessions, onSessionsEnded } = this.#options
    for (let batch = 0; batch < MAX_BATCHES; batch++) {
      if (this.#isStopping || !(await run.tenure.renew())) throw new TenureOverError()
      const swept = await store.sweep(BATCH, aliveSessions(), run.tenure.fence)
      if (swept === 'fenced') throw new TenureOverError()
      run.totals.add(swept)
      if (swept.sessions.length > 0) {
        // First, and whoever is the maintainer by now: nobody else was told of these sessions.
        await this.#attempt(run, async () => onSessionsEnded(swept.sessions))
      }
      for (const ref of swept.files) await this.#remove(run, () => files.removeItem(ref))
      for (const key of swept.sessions) await this.#remove(run, () => files.removeSession(key))
      if (!swept.more) return
    }
  }

  async #sweepOrphans(run: Run, cutoffs: Cutoffs): Promise<void> {
    for await (const key of this.#options.files.listSessions()) {
      await this.#sweepSession(run, key, cutoffs)
    }
  }

  async #sweepSession(run: Run, key: SessionKey, cutoffs: Cutoffs): Promise<void> {
    const { store, files } = this.#options
    const items: FoundItem[] = []
    for await (const item of files.listItems(key)) items.push(item)
    this.#mustHold(run)
    const known = await store.referencedItems(key)
    if (this.#options.knowsAll?.() === false) throw new TenureOverError()
    const nameOfSession = `${key.serverId}/${key.sessionId}`
    if (known === undefined) {
      const changedAtMs = (await files.sessionMtimeMs(key)) ?? Number.POSITIVE_INFINITY
      const newestMs = Math.max(changedAtMs, ...items.map((item) => item.newestMtimeMs))
      const unownedForMs = this.#sightings.note(nameOfSession)
      if (newestMs > cutoffs.sessionsMs) {
        for (const item of items) await this.#sweepTemporary(run, item, cutoffs.temporaryMs)
      } else if (unownedForMs >= cutoffs.unownedForMs) {
        const isRemoved = await this.#remove(run, () => files.removeSession(key))
        if (isRemoved) run.totals.counts.removedOrphanSessions++
      }
      return
    }
    const owned = { uploads: new Set(known.uploads), artifacts: new Set(known.artifacts) }
    for (const item of items) {
      const { kind, id } = item.ref
      const isOwned = owned[kind].has(id)
      // Of an upload with several files the first may have been complete for long.
      if (!isOwned && known.isReserving && kind === 'uploads') continue
      const unownedForMs = isOwned ? 0 : this.#sightings.note(`${nameOfSession}/${kind}/${id}`)
      if (isOwned || item.newestMtimeMs > cutoffs.itemsMs) {
        await this.#sweepTemporary(run, item, cutoffs.temporaryMs)
      } else if (unownedForMs >= cutoffs.unownedForMs) {
        const isRemoved = await this.#remove(run, () => files.removeItem(item.ref))
        if (isRemoved) run.totals.counts.removedOrphanItems++
      }
    }
  }

  async #sweepTemporary(run: Run, item: FoundItem, olderThanMs: number): Promise<void> {
    for (const file of item.files) {
      if (!isTempName(file.name) || file.mtimeMs > olderThanMs) continue
      const remove = () => this.#options.files.removeTemp(item.ref, file.name)
      if (await this.#remove(run, remove)) run.totals.counts.removedTemporaryFiles++
    }
  }

  /** What was decided to be removed is, while nobody else can decide. */
  async #remove(run: Run, work: () => Promise<void>): Promise<boolean> {
    this.#mustHold(run)
    return this.#attempt(run, work)
  }

  #mustHold({ tenure }: Run): void {
    if (this.#isStopping || !tenure.holds) throw new TenureOverError()
  }

  /** One removal that fails must not keep the rest from being removed. */
  async #attempt({ totals }: Run, work: () => Promise<void>): Promise<boolean> {
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

interface Run {
  readonly tenure: Tenure
  readonly totals: Totals
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
