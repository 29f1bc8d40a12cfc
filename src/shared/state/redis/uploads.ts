/** Reservations, uploads and their one-time nonces on Redis. */
import { randomBytes } from 'node:crypto'

import { StoreUnavailableError } from '../../errors.ts'
import type { SessionKey, UploadRecord } from '../records.ts'
import type { Reserved, UploadId, UploadsCommitted, UploadsResolved } from '../store.ts'
import type { Nonce } from '../upload-operations.ts'
import { bytesOf, listOf, numberOf, outcomeOf, textOf } from './answers.ts'
import type { RedisContext } from './context.ts'
import { pack, unpackUpload } from './record-codec.ts'
import { RELEASE, RESERVE } from './room-scripts.ts'
import { evictedFiles, withRoom } from './room.ts'
import type { ScriptArgument } from './script.ts'
import { settle } from './settlement.ts'
import { COMMIT_UPLOADS, IS_NONCE_USED, RESOLVE_UPLOADS } from './upload-scripts.ts'

export async function reserveBytes(
  ctx: RedisContext,
  key: SessionKey,
  bytes: number,
  reservationId?: string,
): Promise<Reserved> {
  if (!Number.isSafeInteger(bytes) || bytes < 0) {
    throw new RangeError(`cannot reserve ${bytes} bytes: it must be a whole number, not negative`)
  }
  const known = reservationId ?? ''
  const created = randomBytes(16).toString('base64url')
  const outcome = await withRoom(ctx, {
    key,
    bytes,
    reservationId: known,
    artifactId: '',
    use: async (minFreed, endsAtMs) => {
      const args = [bytes, known, created, minFreed, endsAtMs, ctx.origin]
      return listOf(await ctx.onSession(RESERVE, key, ...args))
    },
  })
  const result = outcome.kind === 'used' ? outcomeOf(outcome.answer) : outcome.reason
  switch (result) {
    case 'session_gone':
    case 'session_quota':
    case 'global_quota':
      return { ok: false, reason: result }
    case 'reservation_gone':
      throw new StoreUnavailableError('the reservation is not known any more')
  }
  const evicted = outcome.kind === 'used' ? outcome.answer.slice(2) : []
  return { ok: true, reservationId: reservationId ?? created, evicted: evictedFiles(key, evicted) }
}

export async function releaseBytes(
  ctx: RedisContext,
  key: SessionKey,
  reservationId: string,
): Promise<void> {
  const share = textOf(await ctx.onSession(RELEASE, key, reservationId))
  if (share !== '') await settle(ctx, key, share)
}

export async function commitUploads(
  ctx: RedisContext,
  key: SessionKey,
  reservationId: string,
  uploads: readonly UploadRecord[],
  nonce?: Nonce,
): Promise<UploadsCommitted> {
  const bytes = sumOfSizes(uploads)
  const args: ScriptArgument[] = [reservationId, nonce?.value ?? '', nonce?.expiresAtMs ?? 0, bytes]
  for (const upload of uploads) args.push(upload.uploadId, upload.sizeBytes, pack(upload))
  const answer = listOf(await ctx.onSession(COMMIT_UPLOADS, key, ...args))
  const outcome = outcomeOf(answer)
  switch (outcome) {
    case 'session_gone':
    case 'nonce_used':
    case 'reservation_gone':
      return { ok: false, reason: outcome }
    case 'too_large':
      throw new RangeError(
        `${bytes} bytes of uploads do not fit a reservation of ${textOf(answer[1])}`,
      )
    case 'duplicate':
      throw new Error('an upload with this id exists')
  }
  await settle(ctx, key, textOf(answer[1]))
  return { ok: true }
}

export async function isNonceUsed(
  ctx: RedisContext,
  key: SessionKey,
  nonce: string,
): Promise<boolean> {
  return (await ctx.onSession(IS_NONCE_USED, key, nonce)) === 1
}

export async function resolveUploads(
  ctx: RedisContext,
  key: SessionKey,
  ids: readonly UploadId[],
): Promise<UploadsResolved> {
  const [first] = ids
  if (first === undefined) return { ok: true, uploads: [] }
  const [outcome, ...rest] = listOf(await ctx.onSessionBinary(RESOLVE_UPLOADS, key, ...ids))
  const reason = textOf(outcome)
  switch (reason) {
    case 'session_gone':
      return { ok: false, uploadId: first, reason }
    case 'unknown':
    case 'expired':
      return { ok: false, uploadId: ids[numberOf(rest[0])] ?? first, reason }
  }
  const uploads: UploadRecord[] = []
  for (const [index, bytes] of rest.entries()) {
    const upload = unpackUpload(bytesOf(bytes))
    if (upload === undefined) return { ok: false, uploadId: ids[index] ?? first, reason: 'unknown' }
    uploads.push(upload)
  }
  return { ok: true, uploads }
}

/** Throws for what can't be sizes or ids of files: a mistake of the caller must not break the sums. */
function sumOfSizes(uploads: readonly UploadRecord[]): number {
  let bytes = 0
  const ids = new Set<UploadId>()
  for (const { uploadId, sizeBytes } of uploads) {
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) {
      throw new RangeError(`an upload can't have ${sizeBytes} bytes`)
    }
    bytes += sizeBytes
    ids.add(uploadId)
  }
  if (ids.size < uploads.length) throw new RangeError('two of the uploads have the same id')
  return bytes
}
