/** Artifacts: allocated while a tool runs, committed when their file is complete. */
import { itemCutoff, makeRoom } from './room.ts'
import type { ArtifactRecord, NewArtifact, SessionKey } from './records.ts'
import { findUsableSession, touchSession } from './session-rows.ts'
import type { StoredSession } from './session-rows.ts'
import type { StoreContext } from './store-context.ts'
import type { ArtifactCommitted, ArtifactId } from './store.ts'

/** What is known of a complete artifact file. */
export interface FinalArtifact {
  readonly filename: string
  readonly mimeType: string
  readonly sizeBytes: number
  readonly sha256: string
}

export function allocateArtifact(
  ctx: StoreContext,
  key: SessionKey,
  artifact: NewArtifact,
): 'allocated' | 'at_capacity' | 'session_gone' {
  const session = findUsableSession(ctx, key)
  if (session?.standing !== 'active') return 'session_gone'
  if (!hasArtifactSlot(ctx, session)) return 'at_capacity'
  const nowMs = ctx.now()
  insertArtifact(ctx, session, {
    artifact: { ...artifact, mimeType: '', sizeBytes: 0, sha256: '', createdAtMs: nowMs },
    pending: true,
    nowMs,
  })
  touchSession(ctx, session, nowMs)
  return 'allocated'
}

export function touchPending(ctx: StoreContext, key: SessionKey, ids: readonly ArtifactId[]): void {
  const session = findUsableSession(ctx, key)
  if (session === undefined) return
  const nowMs = ctx.now()
  for (const id of ids) {
    const row = findArtifact(ctx, session, id)
    if (row?.isPending === true) ctx.uses.noteItem(row.rowId, nowMs)
  }
}

export function commitArtifact(
  ctx: StoreContext,
  key: SessionKey,
  id: ArtifactId,
  final: FinalArtifact,
): ArtifactCommitted {
  if (!Number.isSafeInteger(final.sizeBytes) || final.sizeBytes < 0) {
    throw new RangeError(`an artifact can't have ${final.sizeBytes} bytes`)
  }
  const session = findUsableSession(ctx, key)
  if (session === undefined) return { ok: false, reason: 'session_gone' }
  const row = findArtifact(ctx, session, id)
  if (row?.isPending !== true) return { ok: false, reason: 'unknown' }
  // Still pending here: not counted yet, and not among what may be evicted.
  const room = makeRoom(ctx, session, final.sizeBytes)
  if (!room.ok) {
    ctx.db.run('DELETE FROM items WHERE id = ?', row.rowId)
    return room
  }
  const nowMs = ctx.now()
  ctx.db.run(
    'UPDATE items SET pending = 0, filename = ?, mime_type = ?, size_bytes = ?, sha256 = ?, created_ms = ?, last_accessed_ms = ? WHERE id = ?',
    final.filename,
    final.mimeType,
    final.sizeBytes,
    final.sha256,
    nowMs,
    nowMs,
    row.rowId,
  )
  touchSession(ctx, session, nowMs)
  const { toolName, exposeAsResource } = row.record
  const artifact = { artifactId: id, ...final, toolName, exposeAsResource, createdAtMs: nowMs }
  return { ok: true, artifact, evicted: room.evicted }
}

export function dropArtifact(ctx: StoreContext, key: SessionKey, id: ArtifactId): void {
  ctx.db.run(
    `DELETE FROM items WHERE kind = 'artifacts' AND item_id = ?
      AND session = (SELECT id FROM sessions WHERE server_id = ? AND session_id = ?)`,
    id,
    key.serverId,
    key.sessionId,
  )
}

export function listArtifacts(ctx: StoreContext, key: SessionKey): readonly ArtifactRecord[] {
  const session = findUsableSession(ctx, key)
  if (session === undefined) return []
  ctx.uses.write(ctx.db)
  return ctx.db
    .all<ArtifactColumns>(
      `SELECT ${COLUMNS} FROM items
        WHERE session = ? AND kind = 'artifacts' AND pending = 0 AND last_accessed_ms >= ? ORDER BY created_ms, id`,
      session.rowId,
      itemCutoff(ctx.policy, 'artifacts', ctx.now()) ?? 0,
    )
    .map((columns) => toArtifact(ctx, columns).record)
}

export function readArtifact(
  ctx: StoreContext,
  key: SessionKey,
  id: ArtifactId,
): ArtifactRecord | undefined {
  const session = findUsableSession(ctx, key)
  const row = session && findArtifact(ctx, session, id)
  if (session === undefined || row === undefined || row.isPending) return undefined
  const nowMs = ctx.now()
  if (row.lastAccessedAtMs < (itemCutoff(ctx.policy, 'artifacts', nowMs) ?? 0)) return undefined
  ctx.uses.noteItem(row.rowId, nowMs)
  touchSession(ctx, session, nowMs)
  return row.record
}

/** Inserts an artifact, used now. */
export function insertArtifact(
  ctx: StoreContext,
  session: Pick<StoredSession, 'rowId'>,
  entry: { readonly artifact: ArtifactRecord; readonly pending: boolean; readonly nowMs: number },
): void {
  const { artifact, pending, nowMs } = entry
  ctx.db.run(
    `INSERT INTO items (session, kind, item_id, pending, size_bytes, filename, mime_type, sha256, tool_name, expose, created_ms, last_accessed_ms)
      VALUES (?, 'artifacts', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    session.rowId,
    artifact.artifactId,
    pending ? 1 : 0,
    artifact.sizeBytes,
    artifact.filename,
    artifact.mimeType,
    artifact.sha256,
    artifact.toolName,
    artifact.exposeAsResource ? 1 : 0,
    artifact.createdAtMs,
    nowMs,
  )
}

interface StoredArtifact {
  readonly rowId: number
  readonly isPending: boolean
  readonly lastAccessedAtMs: number
  readonly record: ArtifactRecord
}

type ArtifactColumns = readonly [
  rowId: number,
  pending: number,
  writtenMs: number,
  artifactId: ArtifactId,
  filename: string,
  mimeType: string,
  sizeBytes: number,
  sha256: string,
  toolName: string,
  expose: number,
  createdAtMs: number,
]

const COLUMNS =
  'id, pending, last_accessed_ms, item_id, filename, mime_type, size_bytes, sha256, tool_name, expose, created_ms'

function findArtifact(
  ctx: StoreContext,
  session: StoredSession,
  id: ArtifactId,
): StoredArtifact | undefined {
  const columns = ctx.db.get<ArtifactColumns>(
    `SELECT ${COLUMNS} FROM items WHERE session = ? AND kind = 'artifacts' AND item_id = ?`,
    session.rowId,
    id,
  )
  return columns && toArtifact(ctx, columns)
}

function toArtifact(ctx: StoreContext, columns: ArtifactColumns): StoredArtifact {
  const [rowId, pending, writtenMs, artifactId, filename, mimeType] = columns
  const [, , , , , , sizeBytes, sha256, toolName, expose, createdAtMs] = columns
  const exposeAsResource = expose === 1
  return {
    rowId,
    isPending: pending === 1,
    lastAccessedAtMs: ctx.uses.itemUse(rowId, writtenMs),
    record: {
      artifactId,
      filename,
      toolName,
      exposeAsResource,
      mimeType,
      sizeBytes,
      sha256,
      createdAtMs,
    },
  }
}

/** Artifacts past their time-to-live hold no slot, swept or not. */
function hasArtifactSlot(ctx: StoreContext, session: StoredSession): boolean {
  const max = ctx.policy.maxArtifactsPerSession
  if (max === null || session.artifactCount < max) return true
  const cutoff = itemCutoff(ctx.policy, 'artifacts', ctx.now())
  if (cutoff === undefined) return false
  ctx.uses.write(ctx.db)
  const expired = ctx.db.get<readonly [number]>(
    `SELECT count(*) FROM items WHERE session = ? AND kind = 'artifacts' AND pending = 0 AND last_accessed_ms < ?`,
    session.rowId,
    cutoff,
  )
  return session.artifactCount - (expired?.[0] ?? 0) < max
}
