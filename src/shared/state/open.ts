/** Opens the state store of a replica that is alone; the only place that knows which backends of that kind there are. */
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'

import type { LocalLeases } from './lease-table.ts'
import { OwnershipLock } from './ownership-lock.ts'
import { NewerSchemaError, prepareSchema, recount } from './schema.ts'
import { Snapshot } from './snapshot.ts'
import { SqlDatabase } from './sql-database.ts'
import { SqlStore } from './sql-store.ts'
import type { StorePolicy } from './store.ts'

/** Which store, where, and under which policy. Plain data: it is also what the store's thread is started with. */
export interface LocalStoreOptions {
  readonly type: 'memory' | 'disk'
  /** The database of type `disk`. */
  readonly path: string
  /** Whether `disk` uses a write-ahead log; without one each commit costs more waits for the disk. */
  readonly walEnabled: boolean
  /** Where type `memory` keeps its snapshot; null keeps none. */
  readonly snapshotPath: string | null
  readonly snapshotIntervalMs: number
  /** Forget what was stored before. Must be false when a store thread is started again inside a running process. */
  readonly refreshOnStartup: boolean
  readonly policy: StorePolicy
}

/** What else a store can be given. */
export interface LocalStoreHooks {
  /** Unix milliseconds; `Date.now` when absent. */
  readonly clock?: () => number
  /** Hears what an operator should know, for example of a snapshot that was moved aside. */
  readonly onWarning?: (message: string) => void
  /** Leases that there are already. */
  readonly leases?: LocalLeases
}

type StoreHooks = Required<Omit<LocalStoreHooks, 'leases'>> & {
  readonly leases: LocalLeases | undefined
}

/** Opens the store, creating files and directories that are missing. Throws an error that names the file when it is in use, unreadable or too new. */
export function openLocalStore(
  options: LocalStoreOptions,
  { clock = Date.now, onWarning = ignore, leases }: LocalStoreHooks = {},
): SqlStore {
  const open = options.type === 'disk' ? openDisk : openMemory
  return open(options, { clock, onWarning, leases })
}

function openDisk(options: LocalStoreOptions, hooks: StoreHooks): SqlStore {
  return opening((undo) => {
    const lock = acquireLock(options.path)
    undo.push(() => lock.release())
    // Created here so that only its owner can read it: it holds what clients said of themselves, and upstream session ids.
    closeSync(openSync(options.path, 'a', 0o600))
    const db = openDatabase(options)
    undo.push(() => db.close())
    return finishOpening(db, options, hooks, undo)
  })
}

function openMemory(options: LocalStoreOptions, hooks: StoreHooks): SqlStore {
  return opening((undo) => {
    const { snapshotPath: path, snapshotIntervalMs: intervalMs } = options
    if (path !== null) {
      const lock = acquireLock(path)
      undo.push(() => lock.release())
    }
    const db = new SqlDatabase(':memory:')
    undo.push(() => db.close())
    prepareSchema(db)
    if (path !== null) {
      const snapshot = new Snapshot(db, { path, intervalMs, onWarning: hooks.onWarning })
      if (!options.refreshOnStartup) snapshot.load()
      snapshot.start()
      undo.push(() => snapshot.stop())
    }
    return finishOpening(db, options, hooks, undo)
  })
}

function finishOpening(
  db: SqlDatabase,
  options: LocalStoreOptions,
  hooks: StoreHooks,
  undo: readonly (() => void)[],
): SqlStore {
  recount(db)
  const close = (): void => runAll(undo)
  const store = new SqlStore(db, { policy: options.policy, ...hooks, close })
  if (options.refreshOnStartup) store.performAll([['clear', []]])
  return store
}

/** Runs `open`; when it throws, undoes what it had done. */
function opening(open: (undo: (() => void)[]) => SqlStore): SqlStore {
  const undo: (() => void)[] = []
  try {
    return open(undo)
  } catch (error) {
    runAll(undo)
    throw error
  }
}

/** Undoes in the reverse order; what fails does not keep the rest from being undone. */
function runAll(undo: readonly (() => void)[]): void {
  const errors: unknown[] = []
  for (const step of undo.toReversed()) {
    try {
      step()
    } catch (error) {
      errors.push(error)
    }
  }
  if (errors.length > 0) throw new AggregateError(errors, 'the state store did not close cleanly')
}

function acquireLock(path: string): OwnershipLock {
  mkdirSync(dirname(path), { recursive: true })
  return OwnershipLock.acquire(path)
}

function openDatabase(options: LocalStoreOptions): SqlDatabase {
  const { path, walEnabled } = options
  let db: SqlDatabase | undefined
  try {
    db = new SqlDatabase(path)
    db.useJournal(walEnabled ? 'WAL' : 'DELETE')
    prepareSchema(db)
    return db
  } catch (cause) {
    db?.close()
    if (cause instanceof NewerSchemaError) throw cause
    throw new Error(
      `the state database ${path} can't be opened (${String(cause)}): restore it, or move it away to start empty`,
      { cause },
    )
  }
}

function ignore(): void {}
