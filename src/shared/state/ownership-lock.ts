/**
 * Lets one process at a time own a state file. The lock is the kernel's, taken by SQLite on a file beside it, so it ends with its process however
 * that dies; a process id in a file could not tell a dead owner from a living one across containers, where everybody is process 1.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'

import { SqlDatabase } from './sql-database.ts'

/** Holds the lock of one state file from `acquire` to `release`. */
export class OwnershipLock {
  readonly #database: SqlDatabase
  readonly #ownerPath: string

  private constructor(database: SqlDatabase, ownerPath: string) {
    this.#database = database
    this.#ownerPath = ownerPath
  }

  /** Takes the lock of the file at `path`; throws an error that names the file and its owner when somebody else has it. */
  static acquire(path: string): OwnershipLock {
    const ownerPath = `${path}.owner`
    let database: SqlDatabase | undefined
    try {
      database = new SqlDatabase(`${path}.lock`, 0)
      database.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE')
      // Only for the message below; nothing is decided from it.
      writeFileSync(ownerPath, `process ${process.pid} on host ${hostname()}`)
      return new OwnershipLock(database, ownerPath)
    } catch (cause) {
      database?.close()
      if (!isBusy(cause)) throw new Error(`cannot lock the state file ${path}`, { cause })
      throw new Error(
        `the state file ${path} is in use by ${describeOwner(ownerPath)}: stop it, or give this process another path`,
        { cause },
      )
    }
  }

  /** Gives the lock back. Idempotent. */
  release(): void {
    rmSync(this.#ownerPath, { force: true })
    this.#database.close()
  }
}

function describeOwner(ownerPath: string): string {
  try {
    return readFileSync(ownerPath, 'utf8')
  } catch {
    return 'another process'
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'SQLITE_BUSY'
}
