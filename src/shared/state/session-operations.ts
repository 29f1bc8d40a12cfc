/** The life of a session: open, read, revive, touch, replace, close. */
import { readDrift } from './catalogue-operations.ts'
import type { SessionKey, SessionRecord } from './records.ts'
import {
  findSession,
  findSessions,
  findUsableSession,
  idleCutoff,
  readRecord,
  tombstone,
  touchSession,
} from './session-rows.ts'
import type { StoreContext } from './store-context.ts'
import type { SessionView } from './store.ts'

/** Idle sessions that one request for a slot turns into tombstones: bounds its time; one is enough to get the slot. */
const IDLE_BATCH = 64

export function openSession(ctx: StoreContext, record: SessionRecord): 'opened' | 'at_capacity' {
  if (findSession(ctx, record) !== undefined) throw new Error('a session with this id exists')
  if (!hasActiveSlot(ctx)) return 'at_capacity'
  insertSession(ctx, record)
  return 'opened'
}

export function readSession(ctx: StoreContext, key: SessionKey): SessionView | undefined {
  const session = findUsableSession(ctx, key)
  if (session === undefined || session.standing === 'gone') return undefined
  const record = readRecord(ctx, session)
  if (record === undefined) return undefined
  return {
    record,
    state: session.standing,
    lastAccessedAtMs: session.lastAccessedAtMs,
    terminalReason: session.terminalReason,
    drift: readDrift(ctx, session.rowId),
  }
}

export function reviveSession(
  ctx: StoreContext,
  key: SessionKey,
): 'active' | 'at_capacity' | 'gone' {
  const session = findUsableSession(ctx, key)
  if (session === undefined || readRecord(ctx, session) === undefined) return 'gone'
  const nowMs = ctx.now()
  if (session.standing === 'active') {
    touchSession(ctx, session, nowMs)
    return 'active'
  }
  // An idle session that no sweep has seen must not hold a slot against itself.
  if (session.markedActive) tombstone(ctx, session)
  if (!hasActiveSlot(ctx)) return 'at_capacity'
  ctx.db.run(
    'UPDATE sessions SET state = 0, tombstone_expires_ms = NULL, last_accessed_ms = ? WHERE id = ?',
    nowMs,
    session.rowId,
  )
  ctx.invalidate(key, 'others')
  return 'active'
}

export function touchSessions(
  ctx: StoreContext,
  keys: readonly SessionKey[],
): readonly (string | null | undefined)[] {
  const nowMs = ctx.now()
  return keys.map((key) => {
    const session = findUsableSession(ctx, key)
    if (session?.standing !== 'active') return undefined
    touchSession(ctx, session, nowMs)
    return readRecord(ctx, session)?.upstreamSessionId
  })
}

export function replaceUpstreamSession(
  ctx: StoreContext,
  next: SessionRecord,
  expectedUpstreamSessionId: string | null,
): boolean {
  const session = findUsableSession(ctx, next)
  const record = session && readRecord(ctx, session)
  if (session === undefined || record?.upstreamSessionId !== expectedUpstreamSessionId) return false
  ctx.db.run('UPDATE sessions SET record = ? WHERE id = ?', JSON.stringify(next), session.rowId)
  ctx.invalidate(next, 'others')
  return true
}

export function closeSession(ctx: StoreContext, key: SessionKey): SessionRecord | undefined {
  const session = findSession(ctx, key)
  if (session === undefined) return undefined
  ctx.db.run('DELETE FROM sessions WHERE id = ?', session.rowId)
  ctx.leases.drop(key)
  ctx.invalidate(key, 'others')
  return readRecord(ctx, session)
}

/** Whether one more session may be active. Idle sessions hold no slot: they become tombstones here when nobody swept them yet. */
export function hasActiveSlot(ctx: StoreContext): boolean {
  const max = ctx.policy.maxActiveSessions
  if (max === null || activeSessions(ctx) < max) return true
  const cutoff = idleCutoff(ctx.policy, ctx.now())
  if (cutoff === undefined) return false
  ctx.uses.write(ctx.db)
  const idle = findSessions(
    ctx,
    `WHERE state = 0 AND last_accessed_ms < ? ORDER BY last_accessed_ms LIMIT ${IDLE_BATCH}`,
    cutoff,
  )
  for (const session of idle) tombstone(ctx, session)
  return activeSessions(ctx) < max
}

/** Inserts an active session that is used now; returns the row's id. */
export function insertSession(ctx: StoreContext, record: SessionRecord): number {
  ctx.db.run(
    'INSERT INTO sessions (server_id, session_id, record, state, last_accessed_ms) VALUES (?, ?, ?, 0, ?)',
    record.serverId,
    record.sessionId,
    JSON.stringify(record),
    ctx.now(),
  )
  return ctx.db.get<readonly [number]>('SELECT last_insert_rowid()')?.[0] ?? 0
}

function activeSessions(ctx: StoreContext): number {
  return ctx.db.get<readonly [number]>('SELECT sessions FROM totals')?.[0] ?? 0
}
