/** What start-up, orphan sweeping and health need of the store. */
import { insertArtifact } from './artifact-operations.ts'
import { isFenced } from './local-leases.ts'
import type { ArtifactRecord, FileRef, SessionKey, SessionRecord, UploadRecord } from './records.ts'
import { recountRows } from './schema.ts'
import { hasActiveSlot, insertSession } from './session-operations.ts'
import { findSession, readRecord } from './session-rows.ts'
import type { StoreContext } from './store-context.ts'
import type { CounterRepair, Inventory, ReferencedItems } from './store.ts'
import { insertUpload } from './upload-operations.ts'

export function referencedItems(ctx: StoreContext, key: SessionKey): ReferencedItems | undefined {
  const session = findSession(ctx, key)
  if (session === undefined) return undefined
  const idsOf = (kind: FileRef['kind']): string[] =>
    ctx.db
      .all<readonly [string]>(
        'SELECT item_id FROM items WHERE session = ? AND kind = ?',
        session.rowId,
        kind,
      )
      .map(([id]) => id)
  return {
    uploads: idsOf('uploads'),
    artifacts: idsOf('artifacts'),
    isReserving: isReserving(ctx, session.rowId),
  }
}

function isReserving(ctx: StoreContext, rowId: number): boolean {
  const found = ctx.db.get('SELECT 1 FROM reservations WHERE session = ? LIMIT 1', rowId)
  return found !== undefined
}

export function adopt(
  ctx: StoreContext,
  record: SessionRecord,
  uploads: readonly UploadRecord[],
  artifacts: readonly ArtifactRecord[],
): void {
  const nowMs = ctx.now()
  const rowId = adoptSession(ctx, record, nowMs)
  const known = referencedItems(ctx, record)
  const knownUploads = new Set(known?.uploads)
  const knownArtifacts = new Set(known?.artifacts)
  for (const upload of uploads) {
    if (!knownUploads.has(upload.uploadId)) insertUpload(ctx, { rowId }, upload, nowMs)
  }
  for (const artifact of artifacts) {
    if (knownArtifacts.has(artifact.artifactId)) continue
    insertArtifact(ctx, { rowId }, { artifact, pending: false, nowMs })
  }
}

export function recoverAfterCrash(ctx: StoreContext): readonly FileRef[] {
  const pending = ctx.db.all<
    readonly [id: string, serverId: string, sessionId: SessionKey['sessionId']]
  >(
    'SELECT i.item_id, s.server_id, s.session_id FROM items AS i JOIN sessions AS s ON s.id = i.session WHERE i.pending = 1',
  )
  ctx.db.run('DELETE FROM items WHERE pending = 1')
  ctx.db.run('DELETE FROM reservations')
  return pending.map(([id, serverId, sessionId]) => ({
    serverId,
    sessionId,
    kind: 'artifacts',
    id,
  }))
}

export function clear(ctx: StoreContext): void {
  const keys = ctx.db.all<readonly [serverId: string, sessionId: SessionKey['sessionId']]>(
    'SELECT server_id, session_id FROM sessions',
  )
  ctx.db.run('DELETE FROM sessions')
  ctx.db.run('DELETE FROM nonces')
  ctx.leases.clear()
  for (const [serverId, sessionId] of keys) ctx.invalidate({ serverId, sessionId }, 'everyone')
}

export function repairCounters(ctx: StoreContext, fence: number | null): CounterRepair | 'fenced' {
  if (isFenced(ctx, fence)) return 'fenced'
  const before = inventory(ctx)
  recountRows(ctx.db)
  const after = inventory(ctx)
  return {
    sessions: before.sessions - after.sessions,
    bytes: before.bytes + before.reservedBytes - after.bytes - after.reservedBytes,
  }
}

export function inventory(ctx: StoreContext): Inventory {
  const [
    sessions = 0,
    tombstones = 0,
    uploads = 0,
    artifacts = 0,
    pending = 0,
    bytes = 0,
    held = 0,
  ] =
    ctx.db.get<readonly number[]>(
      'SELECT sessions, tombstones, uploads, artifacts, pending, bytes, reserved_bytes FROM totals',
    ) ?? []
  return {
    sessions,
    tombstones,
    uploads,
    artifacts,
    pendingArtifacts: pending,
    bytes,
    reservedBytes: held,
  }
}

/**
 * The row of the session to adopt into. One that was found on disk holds no slot that a client needs: without a free one it becomes a tombstone,
 * which its client can revive.
 */
function adoptSession(ctx: StoreContext, record: SessionRecord, nowMs: number): number {
  const session = findSession(ctx, record)
  if (session !== undefined) {
    if (readRecord(ctx, session) === undefined) {
      ctx.db.run(
        'UPDATE sessions SET record = ? WHERE id = ?',
        JSON.stringify(record),
        session.rowId,
      )
    }
    return session.rowId
  }
  const isActive = hasActiveSlot(ctx)
  const rowId = insertSession(ctx, record)
  if (!isActive) {
    ctx.db.run(
      'UPDATE sessions SET state = 1, tombstone_expires_ms = ? WHERE id = ?',
      nowMs + ctx.policy.tombstoneTtlMs,
      rowId,
    )
  }
  return rowId
}
