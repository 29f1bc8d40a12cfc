/** Reads session rows and decides what a session is at this moment, whether or not a sweep has seen it. */
import type { SessionKey, SessionRecord } from './records.ts'
import type { StoreContext } from './store-context.ts'
import type { StorePolicy } from './store.ts'

/** A session row. */
export interface StoredSession extends SessionKey {
  readonly rowId: number
  readonly record: string
  /** `gone` is a row that only waits for a sweep: nobody may use it any more. */
  readonly standing: 'active' | 'tombstoned' | 'gone'
  /** What the row says; an idle session can still be marked active. */
  readonly markedActive: boolean
  readonly lastAccessedAtMs: number
  readonly terminalReason: string | null
  /** Committed bytes of the session. */
  readonly usedBytes: number
  readonly reservedBytes: number
  /** Pending ones included. */
  readonly artifactCount: number
}

type SessionColumns = readonly [
  rowId: number,
  serverId: string,
  sessionId: SessionKey['sessionId'],
  record: string,
  state: number,
  lastAccessedAtMs: number,
  tombstoneExpiresAtMs: number | null,
  terminalReason: string | null,
  usedBytes: number,
  reservedBytes: number,
  artifactCount: number,
]

const COLUMNS =
  'id, server_id, session_id, record, state, last_accessed_ms, tombstone_expires_ms, terminal_reason, used_bytes, reserved_bytes, artifact_count'

/** The row of a session, whatever its standing; undefined when there is none. */
export function findSession(ctx: StoreContext, key: SessionKey): StoredSession | undefined {
  const columns = ctx.db.get<SessionColumns>(
    `SELECT ${COLUMNS} FROM sessions WHERE server_id = ? AND session_id = ?`,
    key.serverId,
    key.sessionId,
  )
  return columns && toSession(ctx, columns)
}

/** The row of a session that may be used: active, or tombstoned and revivable. */
export function findUsableSession(ctx: StoreContext, key: SessionKey): StoredSession | undefined {
  const session = findSession(ctx, key)
  return session?.standing === 'gone' ? undefined : session
}

/** Rows for the sweep: `condition` and `order` are SQL of ours. */
export function findSessions(
  ctx: StoreContext,
  clause: string,
  ...values: readonly number[]
): StoredSession[] {
  return ctx.db
    .all<SessionColumns>(`SELECT ${COLUMNS} FROM sessions ${clause}`, ...values)
    .map((columns) => toSession(ctx, columns))
}

/** The record in a row; undefined, with a warning, when it can't be read: one bad row must not stop anything else. */
export function readRecord(ctx: StoreContext, session: StoredSession): SessionRecord | undefined {
  const value = parse(session.record)
  if (isRecordOf(value, session)) return value
  ctx.warn(`the record of a session of server ${session.serverId} can't be read; it is ignored`)
  return undefined
}

/** Notes use of an active session; one that is idle or tombstoned stays so. */
export function touchSession(ctx: StoreContext, session: StoredSession, nowMs: number): void {
  if (session.standing === 'active') ctx.uses.noteSession(session.rowId, nowMs)
}

/** Turns a row that is marked active into a tombstone. Its lifetime runs from the moment the session became idle, not from when that was noticed. */
export function tombstone(ctx: StoreContext, session: StoredSession): void {
  ctx.db.run(
    'UPDATE sessions SET state = 1, tombstone_expires_ms = ? WHERE id = ?',
    tombstoneExpiry(ctx.policy, session.lastAccessedAtMs),
    session.rowId,
  )
  ctx.invalidate(session, 'everyone')
}

/** Sessions last used before this moment are idle; undefined when sessions never are. */
export function idleCutoff(policy: StorePolicy, nowMs: number): number | undefined {
  return policy.idleTtlMs === null ? undefined : nowMs - policy.idleTtlMs
}

function toSession(ctx: StoreContext, columns: SessionColumns): StoredSession {
  const [rowId, serverId, sessionId, record, state, writtenMs, expiresAtMs] = columns
  const [, , , , , , , terminalReason, usedBytes, reservedBytes, artifactCount] = columns
  const lastAccessedAtMs = ctx.uses.sessionUse(rowId, writtenMs)
  const nowMs = ctx.now()
  const cutoff = idleCutoff(ctx.policy, nowMs)
  const isIdle = state !== 0 || (cutoff !== undefined && lastAccessedAtMs < cutoff)
  const endsAtMs = expiresAtMs ?? tombstoneExpiry(ctx.policy, lastAccessedAtMs)
  const isRevivable = ctx.policy.allowRevival && terminalReason === null && endsAtMs >= nowMs
  return {
    rowId,
    serverId,
    sessionId,
    record,
    standing: isIdle ? (isRevivable ? 'tombstoned' : 'gone') : 'active',
    markedActive: state === 0,
    lastAccessedAtMs,
    terminalReason,
    usedBytes,
    reservedBytes,
    artifactCount,
  }
}

function tombstoneExpiry(policy: StorePolicy, lastAccessedAtMs: number): number {
  const lifetimeMs = policy.allowRevival ? policy.tombstoneTtlMs : 0
  return lastAccessedAtMs + (policy.idleTtlMs ?? 0) + lifetimeMs
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** The version that is written, and one newer, which only adds fields: a newer program may have used the same file before. */
const READABLE_VERSIONS: ReadonlySet<unknown> = new Set([1, 2])

function isRecordOf(value: unknown, key: SessionKey): value is SessionRecord {
  return (
    typeof value === 'object' &&
    value !== null &&
    'schemaVersion' in value &&
    READABLE_VERSIONS.has(value.schemaVersion) &&
    'serverId' in value &&
    value.serverId === key.serverId &&
    'sessionId' in value &&
    value.sessionId === key.sessionId
  )
}
