/** One SQLite connection with cached statements, transactions and savepoints: the only file that knows the `libsql` package. */
import Libsql from 'libsql'

/** What a column can hold here. */
export type SqlValue = string | number | null

/** One result row: the columns in the order of the statement. */
type Row = readonly SqlValue[]

type Statement = Libsql.Statement

/** How long a statement waits by default for somebody who uses the file from outside, for example with the `sqlite3` shell. */
const BUSY_TIMEOUT_MS = 2_000

/** A connection to the database in file `path`, or to a new one in memory for `:memory:`. */
export class SqlDatabase {
  readonly path: string
  readonly #connection: Libsql.Database
  // One cache for each way to run: after `all`, libsql's `get` on the same statement silently keeps the parameters of the call before.
  readonly #getters = new Map<string, Statement>()
  readonly #listers = new Map<string, Statement>()
  readonly #runners = new Map<string, Statement>()
  #relaxable = false
  #durable = true
  #closed = false

  constructor(path: string, busyTimeoutMs = BUSY_TIMEOUT_MS) {
    this.path = path
    this.#connection = new Libsql(path)
    try {
      this.exec(`PRAGMA busy_timeout = ${busyTimeoutMs}; PRAGMA synchronous = FULL`)
    } catch (error) {
      this.#connection.close()
      throw error
    }
  }

  /** Picks the journal. Only with a write-ahead log may a transaction skip its fsync without risking the file. */
  useJournal(mode: 'WAL' | 'DELETE'): void {
    this.get(`PRAGMA journal_mode = ${mode}`)
    this.#relaxable = mode === 'WAL'
  }

  /** Runs statements that have no parameters. */
  exec(sql: string): void {
    this.#connection.exec(sql)
  }

  /** The first row; `R` is the tuple of the statement's columns. */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- only the caller knows what its SQL selects
  get<R extends Row>(sql: string, ...values: readonly SqlValue[]): R | undefined {
    const statement = cached(this.#getters, sql, () => this.#connection.prepare(sql).raw())
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a raw row has the columns that the caller's SQL lists
    return statement.get(...values) as R | undefined
  }

  /** All rows; `R` is the tuple of the statement's columns. */
  all<R extends Row>(sql: string, ...values: readonly SqlValue[]): R[] {
    const statement = cached(this.#listers, sql, () => this.#connection.prepare(sql).raw())
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as above
    return statement.all(...values) as R[]
  }

  /** Runs a statement that answers no rows; returns how many rows it changed. */
  run(sql: string, ...values: readonly SqlValue[]): number {
    const statement = cached(this.#runners, sql, () => this.#connection.prepare(sql))
    return statement.run(...values).changes
  }

  /** Whether a transaction is open; SQLite ends one by itself after some errors, for example when the disk is full. */
  get inTransaction(): boolean {
    return this.#connection.inTransaction
  }

  /** Runs `work` in one transaction. A `durable` one has reached the disk when this returns; another may be lost (never torn) by a power cut. */
  transaction<T>(durable: boolean, work: () => T): T {
    this.#setDurable(durable || !this.#relaxable)
    this.run('BEGIN IMMEDIATE')
    try {
      const result = work()
      this.run('COMMIT')
      return result
    } catch (error) {
      if (this.inTransaction) this.run('ROLLBACK')
      throw error
    }
  }

  /** Runs `work` inside the open transaction; when it throws, what it did is undone and nothing else is. */
  savepoint<T>(work: () => T): T {
    this.run('SAVEPOINT nested')
    try {
      const result = work()
      this.run('RELEASE nested')
      return result
    } catch (error) {
      if (this.inTransaction) {
        this.run('ROLLBACK TO nested')
        this.run('RELEASE nested')
      }
      throw error
    }
  }

  /** Closes the connection. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    if (this.#relaxable) this.all('PRAGMA wal_checkpoint(TRUNCATE)')
    this.#getters.clear()
    this.#listers.clear()
    this.#runners.clear()
    this.#connection.close()
  }

  #setDurable(durable: boolean): void {
    if (durable === this.#durable) return
    this.exec(`PRAGMA synchronous = ${durable ? 'FULL' : 'NORMAL'}`)
    this.#durable = durable
  }
}

function cached(
  statements: Map<string, Statement>,
  sql: string,
  prepare: () => Statement,
): Statement {
  let statement = statements.get(sql)
  if (statement === undefined) {
    statement = prepare()
    statements.set(sql, statement)
  }
  return statement
}
