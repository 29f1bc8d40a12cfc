/** Reservations, uploads and their one-time nonces. */
import { randomBytes } from 'node:crypto'

import { StoreUnavailableError } from '../errors.ts'
import { itemCutoff, makeRoom } from './room.ts'
import type { SessionKey, UploadRecord } from './records.ts'
import { findUsableSession, touchSession } from './session-rows.ts'
import type { StoredSession } from './session-rows.ts'
import type { StoreContext } from './store-context.ts'
import type { Reserved, UploadId, UploadsCommitted, UploadsResolved } from './store.ts'

/** Expired nonces that one commit removes: more than it adds, so they can't pile up between sweeps. */
const NONCE_PRUNE_BATCH = 4

/** A nonce and until when it must be remembered. */
export interface Nonce {
  readonly value: string
  readonly expiresAtMs: number
}

export function reserveBytes(
  ctx: StoreContext,
  key: SessionKey,
  bytes: number,
  reservationId?: string,
): Reserved {
  if (!Number.isSafeInteger(bytes) || bytes < 0) {
    throw new RangeError(`cannot reserve ${bytes} bytes: it must be a whole number, not negative`)
  }
  const session = findUsableSession(ctx, key)
  // New work needs an active session; what has begun may end in one that became idle meanwhile.
  if (session === undefined) return { ok: false, reason: 'session_gone' }
  if (reservationId === undefined && session.standing !== 'active') {
    return { ok: false, reason: 'session_gone' }
  }
  if (reservationId !== undefined && reservedBytes(ctx, session, reservationId) === undefined) {
    throw new StoreUnavailableError('the reservation is not known any more')
  }
  const nowMs = ctx.now()
  touchSession(ctx, session, nowMs)
  const room = makeRoom(ctx, session, bytes)
  if (!room.ok) return room
  const id = reservationId ?? randomBytes(16).toString('base64url')
  ctx.db.run(
    `INSERT INTO reservations (id, session, bytes, touched_ms) VALUES (?, ?, ?, ?)
      ON CONFLICT (id) DO UPDATE SET bytes = bytes + excluded.bytes, touched_ms = excluded.touched_ms`,
    id,
    session.rowId,
    bytes,
    nowMs,
  )
  return { ok: true, reservationId: id, evicted: room.evicted }
}

export function releaseBytes(ctx: StoreContext, _key: SessionKey, reservationId: string): void {
  ctx.db.run('DELETE FROM reservations WHERE id = ?', reservationId)
}

export function commitUploads(
  ctx: StoreContext,
  key: SessionKey,
  reservationId: string,
  uploads: readonly UploadRecord[],
  nonce?: Nonce,
): UploadsCommitted {
  const session = findUsableSession(ctx, key)
  if (session === undefined) return { ok: false, reason: 'session_gone' }
  if (nonce !== undefined && isNonceUsed(ctx, key, nonce.value)) {
    return { ok: false, reason: 'nonce_used' }
  }
  const reserved = reservedBytes(ctx, session, reservationId)
  if (reserved === undefined) return { ok: false, reason: 'reservation_gone' }
  checkSizes(uploads, reserved)
  releaseBytes(ctx, key, reservationId)
  const nowMs = ctx.now()
  for (const upload of uploads) insertUpload(ctx, session, upload, nowMs)
  if (nonce !== undefined) redeem(ctx, nonce, nowMs)
  touchSession(ctx, session, nowMs)
  return { ok: true }
}

export function isNonceUsed(ctx: StoreContext, _key: SessionKey, nonce: string): boolean {
  const row = ctx.db.get<readonly [number]>('SELECT expires_ms FROM nonces WHERE nonce = ?', nonce)
  return row !== undefined && row[0] >= ctx.now()
}

export function resolveUploads(
  ctx: StoreContext,
  key: SessionKey,
  ids: readonly UploadId[],
): UploadsResolved {
  const [first] = ids
  if (first === undefined) return { ok: true, uploads: [] }
  const session = findUsableSession(ctx, key)
  if (session === undefined) return { ok: false, uploadId: first, reason: 'session_gone' }
  const nowMs = ctx.now()
  const cutoff = itemCutoff(ctx.policy, 'uploads', nowMs) ?? 0
  const uploads: UploadRecord[] = []
  const rowIds: number[] = []
  for (const uploadId of ids) {
    const row = findUpload(ctx, session, uploadId)
    if (row === undefined) return { ok: false, uploadId, reason: 'unknown' }
    const [rowId, writtenMs, filename, mimeType, sizeBytes, sha256, createdAtMs] = row
    if (ctx.uses.itemUse(rowId, writtenMs) < cutoff)
      return { ok: false, uploadId, reason: 'expired' }
    rowIds.push(rowId)
    uploads.push({ uploadId, filename, mimeType, sizeBytes, sha256, createdAtMs })
  }
  for (const rowId of rowIds) ctx.uses.noteItem(rowId, nowMs)
  touchSession(ctx, session, nowMs)
  return { ok: true, uploads }
}

/** Inserts a committed upload, used now. */
export function insertUpload(
  ctx: StoreContext,
  session: Pick<StoredSession, 'rowId'>,
  upload: UploadRecord,
  nowMs: number,
): void {
  ctx.db.run(
    `INSERT INTO items (session, kind, item_id, pending, size_bytes, filename, mime_type, sha256, tool_name, expose, created_ms, last_accessed_ms)
      VALUES (?, 'uploads', ?, 0, ?, ?, ?, ?, '', 0, ?, ?)`,
    session.rowId,
    upload.uploadId,
    upload.sizeBytes,
    upload.filename,
    upload.mimeType,
    upload.sha256,
    upload.createdAtMs,
    nowMs,
  )
}

type UploadColumns = readonly [
  rowId: number,
  lastAccessedAtMs: number,
  filename: string,
  mimeType: string,
  sizeBytes: number,
  sha256: string,
  createdAtMs: number,
]

function findUpload(
  ctx: StoreContext,
  session: StoredSession,
  uploadId: UploadId,
): UploadColumns | undefined {
  return ctx.db.get<UploadColumns>(
    `SELECT id, last_accessed_ms, filename, mime_type, size_bytes, sha256, created_ms FROM items
      WHERE session = ? AND kind = 'uploads' AND item_id = ?`,
    session.rowId,
    uploadId,
  )
}

/** The caller wrote no more than it reserved; anything else is its mistake, and must not break the sums. */
function checkSizes(uploads: readonly UploadRecord[], reserved: number): void {
  let sizeBytes = 0
  for (const upload of uploads) {
    if (!Number.isSafeInteger(upload.sizeBytes) || upload.sizeBytes < 0) {
      throw new RangeError(`an upload can't have ${upload.sizeBytes} bytes`)
    }
    sizeBytes += upload.sizeBytes
  }
  if (sizeBytes > reserved) {
    throw new RangeError(`${sizeBytes} bytes of uploads do not fit a reservation of ${reserved}`)
  }
}

function reservedBytes(
  ctx: StoreContext,
  session: StoredSession,
  reservationId: string,
): number | undefined {
  return ctx.db.get<readonly [number]>(
    'SELECT bytes FROM reservations WHERE id = ? AND session = ?',
    reservationId,
    session.rowId,
  )?.[0]
}

function redeem(ctx: StoreContext, nonce: Nonce, nowMs: number): void {
  ctx.db.run(
    `DELETE FROM nonces WHERE nonce IN (SELECT nonce FROM nonces WHERE expires_ms < ? ORDER BY expires_ms LIMIT ${NONCE_PRUNE_BATCH})`,
    nowMs,
  )
  ctx.db.run(
    'INSERT OR REPLACE INTO nonces (nonce, expires_ms) VALUES (?, ?)',
    nonce.value,
    nonce.expiresAtMs,
  )
}
