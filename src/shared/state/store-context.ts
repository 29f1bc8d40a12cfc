/** What every store operation works with. */
import type { LocalLeases } from './lease-table.ts'
import type { SessionKey } from './records.ts'
import type { SqlDatabase } from './sql-database.ts'
import type { StorePolicy } from './store.ts'
import type { UnwrittenUses } from './unwritten-uses.ts'

/** Who must drop a copy of a changed session: everybody, or everybody but the one that asked for the change (and so knows). */
type Audience = 'everyone' | 'others'

/** Passed to each operation. Operations run synchronously inside the store's transaction. */
export interface StoreContext {
  readonly db: SqlDatabase
  readonly policy: StorePolicy
  readonly leases: LocalLeases
  /** What the tables do not say yet. Written before rows are looked for by their last use. */
  readonly uses: UnwrittenUses
  /** Unix milliseconds, whole. */
  now(): number
  /** Says that copies of this session must not be trusted any more. */
  invalidate(key: SessionKey, audience: Audience): void
  /** Reports what an operator should hear of; never holds a secret. */
  warn(message: string): void
}
