/** Keeps a database that lives in memory in a file as well: read once at start, replaced as a whole from time to time. */
import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'

import { NewerSchemaError, SCHEMA_VERSION, schemaVersion, stateTables } from './schema.ts'
import type { SqlDatabase } from './sql-database.ts'

/** Longer delays overflow and would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** Where a snapshot is kept and how often it is taken. */
export interface SnapshotOptions {
  readonly path: string
  readonly intervalMs: number
  /** Hears of snapshots that could not be read or written; the store goes on. */
  readonly onWarning: (message: string) => void
}

/** Writes snapshots of one database. */
export class Snapshot {
  readonly #db: SqlDatabase
  readonly #options: SnapshotOptions
  #timer: NodeJS.Timeout | undefined
  #savedChanges = -1

  constructor(db: SqlDatabase, options: SnapshotOptions) {
    this.#db = db
    this.#options = options
  }

  /** Fills the database, which has the tables but no rows. A file that can't be read is moved aside; one of a newer version throws. */
  load(): void {
    const { path, onWarning } = this.#options
    if (!existsSync(path)) return
    try {
      this.#copyFrom(path)
    } catch (error) {
      if (error instanceof NewerSchemaError) throw error
      const aside = `${path}.corrupt-${Date.now()}`
      renameSync(path, aside)
      onWarning(`the snapshot ${path} can't be read (${String(error)}): it is now ${aside}`)
    }
  }

  /** Takes a snapshot every `intervalMs` from now on. */
  start(): void {
    const intervalMs = Math.min(this.#options.intervalMs, MAX_TIMER_MS)
    this.#timer ??= setInterval(() => this.#trySave(), intervalMs)
  }

  /** Takes the last snapshot. */
  stop(): void {
    clearInterval(this.#timer)
    this.#trySave()
  }

  #trySave(): void {
    try {
      this.#save()
    } catch (error) {
      this.#options.onWarning(
        `the snapshot ${this.#options.path} can't be written: ${String(error)}; the one before is kept`,
      )
    }
  }

  /** Replaces the file, or does nothing when nothing changed since. */
  #save(): void {
    const changes = this.#changes()
    if (changes === this.#savedChanges) return
    const { path } = this.#options
    const temporary = `${path}.tmp`
    rmSync(temporary, { force: true })
    closeSync(openSync(temporary, 'w', 0o600)) // an empty file is what VACUUM INTO accepts; it keeps the mode
    this.#db.run('VACUUM INTO ?', temporary)
    syncPath(temporary)
    renameSync(temporary, path)
    syncPath(dirname(path))
    this.#savedChanges = changes
  }

  #changes(): number {
    return this.#db.get<readonly [number]>('SELECT total_changes()')?.[0] ?? 0
  }

  #copyFrom(path: string): void {
    const db = this.#db
    db.run('ATTACH ? AS snapshot', path)
    try {
      const version = schemaVersion(db, 'snapshot')
      if (version > SCHEMA_VERSION) throw new NewerSchemaError(path, version)
      const check = db.get<readonly [string]>('PRAGMA snapshot.quick_check(1)')?.[0]
      if (check !== 'ok') throw new Error(check ?? 'no answer to quick_check')
      db.transaction(false, () => {
        for (const [table, columns] of stateTables(version)) {
          db.exec(
            `INSERT OR IGNORE INTO main.${table} (${columns}) SELECT ${columns} FROM snapshot.${table}`,
          )
        }
      })
    } finally {
      db.exec('DETACH snapshot')
    }
  }
}

function syncPath(path: string): void {
  const descriptor = openSync(path, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}
