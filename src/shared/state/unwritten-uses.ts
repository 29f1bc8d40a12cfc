/**
 * When sessions and items were used, as far as the tables do not say so yet. Every call is a use of several rows, and each of them is in an index by
 * its last use: written one by one they would be most of what a call writes. A crash loses those of the last second.
 */
import type { SqlDatabase } from './sql-database.ts'

/** More rows than this are not kept apart. */
const MAX_ROWS = 4_096

/** See the file comment. Times are Unix milliseconds. A row id that is used again does no harm: its new row was used later than the old one. */
export class UnwrittenUses {
  readonly #sessions = new Map<number, number>()
  readonly #items = new Map<number, number>()

  /** Whether there is anything to write. */
  get isEmpty(): boolean {
    return this.#sessions.size === 0 && this.#items.size === 0
  }

  /** Whether it is time to write, whoever asks for the rows. */
  get isFull(): boolean {
    return this.#sessions.size + this.#items.size >= MAX_ROWS
  }

  noteSession(rowId: number, atMs: number): void {
    note(this.#sessions, rowId, atMs)
  }

  noteItem(rowId: number, atMs: number): void {
    note(this.#items, rowId, atMs)
  }

  /** The last use of a session whose row says `writtenMs`. */
  sessionUse(rowId: number, writtenMs: number): number {
    return later(this.#sessions.get(rowId), writtenMs)
  }

  /** The same of an item. */
  itemUse(rowId: number, writtenMs: number): number {
    return later(this.#items.get(rowId), writtenMs)
  }

  /** Writes them, for statements that look for rows by their last use. Where the transaction fails they are lost. */
  write(db: SqlDatabase): void {
    for (const [table, uses] of [
      ['sessions', this.#sessions],
      ['items', this.#items],
    ] as const) {
      const sql = `UPDATE ${table} SET last_accessed_ms = ? WHERE id = ? AND last_accessed_ms < ?`
      for (const [rowId, atMs] of uses) db.run(sql, atMs, rowId, atMs)
      uses.clear()
    }
  }
}

function note(uses: Map<number, number>, rowId: number, atMs: number): void {
  const before = uses.get(rowId)
  if (before === undefined || before < atMs) uses.set(rowId, atMs)
}

function later(noted: number | undefined, writtenMs: number): number {
  return noted === undefined || noted < writtenMs ? writtenMs : noted
}
