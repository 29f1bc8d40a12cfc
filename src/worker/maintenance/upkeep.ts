/** Everything that a worker does for the store and the files without being asked: keeping alive what it works for, and, in one worker, maintenance. */
import { join } from 'node:path'

import type { Config } from '../../shared/config/config.ts'
import type { FileStore } from '../../shared/files/file-store.ts'
import type { Log } from '../../shared/log.ts'
import type { SessionRecord } from '../../shared/state/records.ts'
import type { RemoteStore } from '../../shared/state/remote.ts'
import type { DigestPool } from '../files/digest-pool.ts'
import { FileClock } from '../../shared/files/file-clock.ts'
import { FileLock } from './file-lock.ts'
import { KeepAlive, type BusySession } from './keep-alive.ts'
import { Maintainer } from './maintainer.ts'
import { LeasedLock, NoLock, type MaintenanceLock, type Tenure } from './maintenance-lock.ts'
import type { ReconciliationReport } from './reconciliation.ts'
import { adoptUnderTenure, clearUp } from './start-up.ts'
import { StoreLock } from './store-lock.ts'
import { Sweeper } from './sweeper.ts'
import type { MaintenanceReport } from './sweeper.ts'

/** A maintainer that nobody hears of for this long is not it any more. */
const LEASE_MS = 15_000
const RENEW_MS = 5_000
/** In runs. */
const REPAIR_EVERY = 5
/** What a replica works for is noted this often; leases of calls last three times as long. */
const KEEP_ALIVE_MS = 5_000
const MIN_KEEP_ALIVE_MS = 50
/** Files that changed since then may be about to get a record from another replica, in milliseconds. */
const SETTLING_MS = 120_000

/** What the upkeep works with. */
export interface UpkeepParts {
  readonly config: Config
  readonly store: RemoteStore
  readonly files: FileStore
  readonly digests: DigestPool
  readonly replicaId: string
  readonly log: Log
  /** Whether this worker is the one that maintains. */
  readonly maintains: boolean
  /** Sessions with calls or uploads under way in this worker. */
  readonly busySessions: () => readonly BusySession[]
  /** Hears of every run of maintenance; undefined: it failed. */
  readonly onRun?: ((report: MaintenanceReport | undefined) => void) | undefined
  /** Ends the upstream sessions of sessions that are gone. */
  readonly endUpstream: (records: readonly SessionRecord[]) => Promise<void>
}

/** One in every worker. */
export class Upkeep {
  readonly #parts: UpkeepParts
  readonly #isShared: boolean
  readonly #keepAlive: KeepAlive
  readonly #sweeper: Sweeper
  readonly #maintainer: Maintainer
  readonly #fileClock: FileClock
  #isFirstStart = false
  #hasFailed = false

  constructor(parts: UpkeepParts) {
    const { config, store, files, log, busySessions } = parts
    this.#parts = parts
    this.#isShared = config.statePersistence.type === 'redis'
    this.#fileClock = new FileClock(join(files.root, 'sessions'))
    this.#keepAlive = new KeepAlive({
      store,
      intervalMs: keepAliveMs(config.sessions.idleTtlSeconds),
      busySessions,
      onError: (error) => log.debug({ err: error }, 'what is under way could not be noted'),
    })
    this.#sweeper = new Sweeper({
      store,
      files,
      orphans: {
        enabled: config.storage.orphanSweeperEnabled,
        graceMs: config.storage.orphanSweeperGraceSeconds * 1_000,
      },
      fileClock: this.#fileClock,
      knowsAll: () => store.mode === 'shared',
      aliveSessions: () => busySessions().map(({ key }) => key),
      onSessionsEnded: (records) => parts.endUpstream(records),
      onError: (error) => log.warn({ err: error }, 'maintenance failed in part'),
    })
    const lock = this.#createLock()
    store.onModeChange(() => lock.forget())
    const { cleanupIntervalSeconds } = config.core
    this.#maintainer = new Maintainer({
      lock,
      sweeper: this.#sweeper,
      store,
      intervalMs: cleanupIntervalSeconds === null ? null : cleanupIntervalSeconds * 1_000,
      renewMs: RENEW_MS,
      // A store of one process keeps its counters in the same transactions as its records.
      repairEvery: this.#isShared ? REPAIR_EVERY : null,
      onElected: (tenure, isFirstAnswer) => this.#elected(tenure, isFirstAnswer),
      onReport: (report) => {
        this.#hasFailed = false
        parts.onRun?.(report)
        log.debug(report, 'maintenance ran')
      },
      onRepaired: (repair) => log.warn(repair, 'counters had drifted and were corrected'),
      onError: (error) => this.#failed(error),
    })
  }

  /** Resolves when requests can be taken. On the replica's first start, clears up after dead processes before. */
  async start(firstStart: boolean): Promise<void> {
    this.#keepAlive.start()
    if (!this.#parts.maintains) return
    if (firstStart && !this.#isShared) {
      this.#tell(await clearUp({ ...this.#parts, sweeper: this.#sweeper }))
    }
    this.#isFirstStart = firstStart
    await this.#maintainer.start()
  }

  /** Whether this replica is the maintainer now, and this worker the one that does it. */
  get isMaintainer(): boolean {
    return this.#maintainer.isElected
  }

  /** After it, nothing is asked of the store any more. */
  async stop(): Promise<void> {
    await this.#maintainer.stop()
    await this.#keepAlive.stop()
  }

  #createLock(): MaintenanceLock {
    const { config, store, files, replicaId } = this.#parts
    switch (config.storage.lockMode) {
      case 'redis':
        return new LeasedLock(new StoreLock(store, replicaId, LEASE_MS))
      case 'file': {
        const directory = join(files.root, 'state', 'maintenance.lock')
        return new LeasedLock(new FileLock({ directory, owner: replicaId, leaseMs: LEASE_MS }))
      }
      case 'process':
        // A shared store's lock would keep out other processes, too.
        return this.#isShared
          ? new NoLock()
          : new LeasedLock(new StoreLock(store, replicaId, LEASE_MS))
      case 'none':
        return new NoLock()
    }
  }

  /** With a shared store, files get their records back by a replica that starts while no other is the maintainer: by the first of all. */
  async #elected(tenure: Tenure, isFirstAnswer: boolean): Promise<void> {
    if (!this.#isShared) return
    const { log } = this.#parts
    log.info('this replica maintains the store and the files')
    if (!isFirstAnswer || !this.#isFirstStart || this.#parts.store.mode !== 'shared') return
    const settledBeforeMs = (await this.#fileClock.nowMs()) - SETTLING_MS
    this.#tell(await adoptUnderTenure(this.#parts, tenure, settledBeforeMs))
  }

  #tell(report: ReconciliationReport): void {
    if (report.sessions > 0) this.#parts.log.info(report, 'state was rebuilt from the files')
  }

  /** While the store is away each attempt fails: the first failure says it all. */
  #failed(error: unknown): void {
    this.#parts.onRun?.(undefined)
    const level = this.#hasFailed ? 'debug' : 'warn'
    this.#hasFailed = true
    this.#parts.log[level]({ err: error }, 'maintenance failed; it is tried again')
  }
}

/** Often enough that a session with an upload under way is never idle. */
function keepAliveMs(idleTtlSeconds: number | null): number {
  const often = idleTtlSeconds === null ? KEEP_ALIVE_MS : (idleTtlSeconds * 1_000) / 4
  return Math.max(MIN_KEEP_ALIVE_MS, Math.min(KEEP_ALIVE_MS, often))
}
