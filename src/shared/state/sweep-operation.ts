/** Ends what has expired, in bounded steps. */
import { isFenced, renewCalls } from './local-leases.ts'
import type { FileRef, SessionKey, SessionRecord } from './records.ts'
import { itemCutoff } from './room.ts'
import { findSession, findSessions, idleCutoff, readRecord, tombstone } from './session-rows.ts'
import type { StoredSession } from './session-rows.ts'
import type { StoreContext } from './store-context.ts'
import type { SweepReport } from './store.ts'

/**
 * A reservation that nothing touched for so long belongs to an upload whose end nobody reported, for example because its thread died: a live one
 * touches its own every 15 seconds at least.
 */
const RESERVATION_MAX_AGE_MS = 5 * 60 * 1000

export function sweep(
  ctx: StoreContext,
  limit: number,
  aliveKeys: readonly SessionKey[],
  fence: number | null,
): SweepReport | 'fenced' {
  if (isFenced(ctx, fence)) return 'fenced'
  const nowMs = ctx.now()
  ctx.uses.write(ctx.db)
  for (const key of aliveKeys) keepSession(ctx, key, nowMs)
  const sessions = sweepSessions(ctx, limit, nowMs)
  const items = sweepItems(ctx, limit, nowMs)
  const noncesLeft = pruneNonces(ctx, limit, nowMs)
  ctx.db.run('DELETE FROM reservations WHERE touched_ms < ?', nowMs - RESERVATION_MAX_AGE_MS)
  return {
    expiredSessions: sessions.expired,
    tombstonedSessions: sessions.tombstoned,
    removedTombstones: sessions.removedTombstones,
    removedUploads: items.removed.uploads,
    removedArtifacts: items.removed.artifacts,
    files: [...sessions.files, ...items.files],
    sessions: sessions.records,
    more: sessions.more || items.more || noncesLeft,
  }
}

export function keepAlive(
  ctx: StoreContext,
  sessions: readonly { readonly key: SessionKey; readonly callLeases: readonly string[] }[],
): void {
  const nowMs = ctx.now()
  for (const { key, callLeases } of sessions) {
    keepSession(ctx, key, nowMs)
    renewCalls(ctx, key, callLeases)
  }
}

/** A session with a call in flight is in use now. One that lost its slot already is not revived, but what it has is kept. */
function keepSession(ctx: StoreContext, key: SessionKey, nowMs: number): void {
  const session = findSession(ctx, key)
  if (session === undefined || session.terminalReason !== null) return
  ctx.db.run(
    'UPDATE sessions SET last_accessed_ms = max(last_accessed_ms, ?), tombstone_expires_ms = max(tombstone_expires_ms, ?) WHERE id = ?',
    nowMs,
    nowMs + ctx.policy.tombstoneTtlMs,
    session.rowId,
  )
  ctx.db.run(
    'UPDATE items SET last_accessed_ms = ? WHERE session = ? AND pending = 1 AND last_accessed_ms < ?',
    nowMs,
    session.rowId,
    nowMs,
  )
  ctx.db.run('UPDATE reservations SET touched_ms = ? WHERE session = ?', nowMs, session.rowId)
}

interface SweptSessions {
  expired: number
  tombstoned: number
  removedTombstones: number
  readonly files: FileRef[]
  readonly records: SessionRecord[]
  more: boolean
}

function sweepSessions(ctx: StoreContext, limit: number, nowMs: number): SweptSessions {
  const swept: SweptSessions = {
    expired: 0,
    tombstoned: 0,
    removedTombstones: 0,
    files: [],
    records: [],
    more: false,
  }
  const cutoff = idleCutoff(ctx.policy, nowMs)
  const idle =
    cutoff === undefined
      ? []
      : findSessions(
          ctx,
          'WHERE state = 0 AND last_accessed_ms < ? ORDER BY last_accessed_ms LIMIT ?',
          cutoff,
          limit,
        )
  for (const session of idle) {
    if (session.standing === 'gone') {
      remove(ctx, session, swept)
      swept.expired++
    } else {
      tombstone(ctx, session)
      swept.tombstoned++
    }
  }
  const expired = findSessions(
    ctx,
    'WHERE state = 1 AND tombstone_expires_ms < ? ORDER BY tombstone_expires_ms LIMIT ?',
    nowMs,
    limit - idle.length,
  )
  for (const session of expired) {
    remove(ctx, session, swept)
    swept.removedTombstones++
  }
  swept.more = idle.length + expired.length >= limit
  return swept
}

/** Removes a session with all that it has. Its directory goes as a whole, so its items are only listed when the record that names it is unreadable. */
function remove(ctx: StoreContext, session: StoredSession, swept: SweptSessions): void {
  const record = readRecord(ctx, session)
  if (record === undefined) swept.files.push(...itemsOf(ctx, session))
  else swept.records.push(record)
  ctx.db.run('DELETE FROM sessions WHERE id = ?', session.rowId)
  ctx.leases.drop(session)
  ctx.invalidate(session, 'everyone')
}

function itemsOf(ctx: StoreContext, session: StoredSession): FileRef[] {
  const { serverId, sessionId } = session
  return ctx.db
    .all<readonly [kind: FileRef['kind'], id: string]>(
      'SELECT kind, item_id FROM items WHERE session = ?',
      session.rowId,
    )
    .map(([kind, id]) => ({ serverId, sessionId, kind, id }))
}

interface SweptItems {
  readonly files: FileRef[]
  readonly removed: { uploads: number; artifacts: number }
  more: boolean
}

type ItemColumns = readonly [
  rowId: number,
  kind: FileRef['kind'],
  id: string,
  serverId: string,
  sessionId: SessionKey['sessionId'],
]

const ITEM_QUERY =
  'SELECT i.id, i.kind, i.item_id, s.server_id, s.session_id FROM items AS i JOIN sessions AS s ON s.id = i.session'

function sweepItems(ctx: StoreContext, limit: number, nowMs: number): SweptItems {
  const swept: SweptItems = { files: [], removed: { uploads: 0, artifacts: 0 }, more: false }
  for (const kind of ['uploads', 'artifacts'] as const) {
    const cutoff = itemCutoff(ctx.policy, kind, nowMs)
    if (cutoff !== undefined) {
      const clause = 'WHERE i.kind = ? AND i.pending = 0 AND i.last_accessed_ms < ? LIMIT ?'
      removeItems(ctx, swept, clause, [kind, cutoff, limit - swept.files.length])
    }
  }
  const clause = 'WHERE i.pending = 1 AND i.last_accessed_ms < ? LIMIT ?'
  const cutoff = nowMs - ctx.policy.pendingGraceMs
  removeItems(ctx, swept, clause, [cutoff, limit - swept.files.length])
  swept.more = swept.files.length >= limit
  return swept
}

function removeItems(
  ctx: StoreContext,
  swept: SweptItems,
  clause: string,
  values: readonly (string | number)[],
): void {
  for (const row of ctx.db.all<ItemColumns>(`${ITEM_QUERY} ${clause}`, ...values)) {
    const [rowId, kind, id, serverId, sessionId] = row
    ctx.db.run('DELETE FROM items WHERE id = ?', rowId)
    swept.removed[kind]++
    swept.files.push({ serverId, sessionId, kind, id })
  }
}

/** Returns whether there are more to prune. */
function pruneNonces(ctx: StoreContext, limit: number, nowMs: number): boolean {
  const pruned = ctx.db.run(
    'DELETE FROM nonces WHERE nonce IN (SELECT nonce FROM nonces WHERE expires_ms < ? ORDER BY expires_ms LIMIT ?)',
    nowMs,
    limit,
  )
  return pruned >= limit
}
