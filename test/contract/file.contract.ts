/** Uploads and artifacts in a state store. */
import type { Test } from 'tap'

import { mintUploadId } from '../../src/shared/ids.ts'
import type { ContractOpener } from './contract-subject.ts'
import {
  finalOf,
  newArtifact,
  newUpload,
  opened,
  policyWith,
  produced,
  refTo,
  reserved,
  sweptBy,
  uploaded,
} from './store-fixtures.ts'

export function uploadTests(t: Test, open: ContractOpener): void {
  t.test('committed uploads are resolved as they were given, all or none', async (t) => {
    const { store } = await open(t, policyWith({}))
    const session = await opened(store)
    const { reservationId } = await reserved(store, session, 100)
    const uploads = [newUpload(30), newUpload(0)]
    t.match(await store.inventory(), { bytes: 0, reservedBytes: 100 })
    t.strictSame(await store.commitUploads(session, reservationId, uploads), { ok: true })
    t.match(await store.inventory(), { bytes: 30, reservedBytes: 0, uploads: 2 })
    const ids = uploads.map(({ uploadId }) => uploadId)
    t.strictSame(await store.resolveUploads(session, ids), { ok: true, uploads })
    const unknown = mintUploadId()
    t.strictSame(await store.resolveUploads(session, [...ids, unknown]), {
      ok: false,
      uploadId: unknown,
      reason: 'unknown',
    })
    t.strictSame(await store.resolveUploads(session, []), { ok: true, uploads: [] })
    const other = await opened(store)
    t.match(await store.resolveUploads(other, ids), { ok: false, reason: 'unknown' })
  })

  t.test('a reservation is used once, grows, and can be given back', async (t) => {
    const { store } = await open(t, policyWith({}))
    const session = await opened(store)
    const { reservationId } = await reserved(store, session, 10)
    t.strictSame(await store.reserveBytes(session, 5, reservationId), {
      ok: true,
      reservationId,
      evicted: [],
    })
    t.equal((await store.inventory()).reservedBytes, 15)
    await store.releaseBytes(session, reservationId)
    await store.releaseBytes(session, reservationId)
    t.equal((await store.inventory()).reservedBytes, 0)
    t.strictSame(await store.commitUploads(session, reservationId, [newUpload(1)]), {
      ok: false,
      reason: 'reservation_gone',
    })
    await t.rejects(store.reserveBytes(session, 1, reservationId), {
      name: 'StoreUnavailableError',
    })
    const other = await opened(store)
    const foreign = await reserved(store, other, 10)
    t.match(await store.commitUploads(session, foreign.reservationId, [newUpload(1)]), {
      reason: 'reservation_gone',
    })
    t.equal((await store.inventory()).uploads, 0)
  })

  t.test('nothing can be reserved, and an empty file stored', async (t) => {
    const { store } = await open(t, policyWith({ maxSessionBytes: 5, maxTotalBytes: 5 }))
    const session = await opened(store)
    const [kept, released] = [await reserved(store, session, 0), await reserved(store, session, 0)]
    await reserved(store, session, 5)
    t.match(await store.commitUploads(session, kept.reservationId, [newUpload(0)]), { ok: true })
    await store.releaseBytes(session, released.reservationId)
    t.match(await store.inventory(), { uploads: 1, bytes: 0, reservedBytes: 5 })
    await produced(store, session, 0)
    t.match(await store.inventory(), { artifacts: 1, bytes: 0, reservedBytes: 5 })
    t.strictSame(await store.repairCounters(null), { sessions: 0, bytes: 0 })
  })

  t.test('uploads larger than their reservation are refused, and nothing is stored', async (t) => {
    const { store } = await open(t, policyWith({}))
    const session = await opened(store)
    const { reservationId } = await reserved(store, session, 10)
    const nonce = { value: 'n-1', expiresAtMs: 1e15 }
    await t.rejects(
      store.commitUploads(session, reservationId, [newUpload(6), newUpload(5)], nonce),
    )
    const twice = newUpload(1)
    await t.rejects(store.commitUploads(session, reservationId, [twice, twice], nonce))
    await t.rejects(store.commitUploads(session, reservationId, [newUpload(-1)]))
    await t.rejects(store.commitUploads(session, reservationId, [newUpload(0.5)]))
    await t.rejects(store.reserveBytes(session, -1))
    await t.rejects(store.reserveBytes(session, Number.NaN))
    t.equal(await store.isNonceUsed(session, 'n-1'), false)
    t.match(await store.inventory(), { uploads: 0, bytes: 0, reservedBytes: 10 })
    t.match(await store.commitUploads(session, reservationId, [newUpload(10)], nonce), {
      ok: true,
    })
  })

  t.test('a nonce is redeemed once, by the commit that succeeds', async (t) => {
    const { store, advance } = await open(t, policyWith({}))
    const session = await opened(store)
    const nonce = { value: 'n-1', expiresAtMs: 1_000_000 + 5_000 }
    const first = await reserved(store, session, 1)
    const second = await reserved(store, session, 1)
    await store.releaseBytes(session, first.reservationId)
    t.match(
      await store.commitUploads(session, first.reservationId, [newUpload(1)], nonce),
      { reason: 'reservation_gone' },
      'a refusal redeems nothing',
    )
    t.equal(await store.isNonceUsed(session, 'n-1'), false)
    t.match(await store.commitUploads(session, second.reservationId, [newUpload(1)], nonce), {
      ok: true,
    })
    t.equal(await store.isNonceUsed(session, 'n-1'), true)
    const third = await reserved(store, session, 1)
    t.strictSame(await store.commitUploads(session, third.reservationId, [newUpload(1)], nonce), {
      ok: false,
      reason: 'nonce_used',
    })
    advance(4_000)
    await sweptBy(store, 10, [])
    t.equal(await store.isNonceUsed(session, 'n-1'), true, 'it outlives sweeps until it expires')
    advance(1_001)
    t.equal(await store.isNonceUsed(session, 'n-1'), false)
  })

  t.test('an upload unused for too long is expired before any sweep; use renews it', async (t) => {
    const { store, advance } = await open(t, policyWith({ uploadTtlMs: 1_000 }))
    const session = await opened(store)
    const upload = await uploaded(store, session, 5)
    advance(900)
    t.match(await store.resolveUploads(session, [upload]), { ok: true })
    advance(900)
    t.match(await store.resolveUploads(session, [upload]), { ok: true })
    advance(1_001)
    t.strictSame(await store.resolveUploads(session, [upload]), {
      ok: false,
      uploadId: upload,
      reason: 'expired',
    })
    const swept = await sweptBy(store, 10, [session])
    t.strictSame(swept.files, [refTo(session, 'uploads', upload)])
    t.equal(swept.removedUploads, 1)
    t.match(await store.resolveUploads(session, [upload]), { reason: 'unknown' })
    t.equal((await store.inventory()).bytes, 0)
  })

  t.test('a refused resolve touches nothing', async (t) => {
    const { store, advance } = await open(t, policyWith({ uploadTtlMs: 1_000 }))
    const session = await opened(store)
    const upload = await uploaded(store, session, 5)
    advance(900)
    t.match(await store.resolveUploads(session, [upload, mintUploadId()]), { reason: 'unknown' })
    advance(101)
    t.match(await store.resolveUploads(session, [upload]), { reason: 'expired' })
  })

  t.test('an upload that ends after its session became idle is kept for revival', async (t) => {
    const { store, advance } = await open(t, policyWith({ idleTtlMs: 1_000 }))
    const session = await opened(store)
    const { reservationId } = await reserved(store, session, 5)
    advance(1_001)
    t.match(await store.reserveBytes(session, 5, reservationId), { ok: true })
    const upload = newUpload(10)
    t.match(await store.commitUploads(session, reservationId, [upload]), { ok: true })
    t.equal((await store.readSession(session))?.state, 'tombstoned')
    t.equal(await store.reviveSession(session), 'active')
    t.match(await store.resolveUploads(session, [upload.uploadId]), { ok: true })
  })
}

export function artifactTests(t: Test, open: ContractOpener): void {
  t.test('an artifact is seen once it is committed, with its final description', async (t) => {
    const { store, advance } = await open(t, policyWith({}))
    const session = await opened(store)
    const artifact = newArtifact()
    const id = artifact.artifactId
    t.equal(await store.allocateArtifact(session, artifact), 'allocated')
    t.equal(await store.readArtifact(session, id), undefined)
    t.strictSame(await store.listArtifacts(session), [])
    t.strictSame(await store.referencedItems(session), {
      uploads: [],
      artifacts: [id],
      isReserving: false,
    })
    t.match(await store.inventory(), { pendingArtifacts: 1, artifacts: 0, bytes: 0 })
    const committed = await store.commitArtifact(session, id, finalOf(12))
    if (!committed.ok) throw new Error(committed.reason)
    t.match(committed.artifact, {
      ...finalOf(12),
      artifactId: id,
      toolName: artifact.toolName,
      exposeAsResource: true,
    })
    t.strictSame(await store.readArtifact(session, id), committed.artifact)
    t.match(await store.inventory(), { pendingArtifacts: 0, artifacts: 1, bytes: 12 })
    t.match(await store.commitArtifact(session, id, finalOf(99)), { ok: false, reason: 'unknown' })
    t.equal((await store.inventory()).bytes, 12, 'bytes are counted once')
    advance(10)
    const second = await produced(store, session, 1)
    t.strictSame(
      (await store.listArtifacts(session)).map(({ artifactId }) => artifactId),
      [id, second.id],
    )
    const other = await opened(store)
    t.equal(await store.readArtifact(other, id), undefined)
    await store.dropArtifact(other, id)
    await store.dropArtifact(session, id)
    t.equal(await store.readArtifact(session, id), undefined)
    t.equal((await store.inventory()).bytes, 1)
  })

  t.test('a session has no more artifacts than it may, pending ones included', async (t) => {
    const { store } = await open(t, policyWith({ maxArtifactsPerSession: 2 }))
    const session = await opened(store)
    await produced(store, session, 1)
    const pending = newArtifact()
    t.equal(await store.allocateArtifact(session, pending), 'allocated')
    t.equal(await store.allocateArtifact(session, newArtifact()), 'at_capacity')
    t.equal(await store.allocateArtifact(await opened(store), newArtifact()), 'allocated')
    await store.dropArtifact(session, pending.artifactId)
    t.equal(await store.allocateArtifact(session, newArtifact()), 'allocated')
  })

  t.test('an artifact unused for too long is gone and holds no slot, swept or not', async (t) => {
    const { store, advance } = await open(
      t,
      policyWith({ artifactTtlMs: 1_000, maxArtifactsPerSession: 1 }),
    )
    const session = await opened(store)
    const { id } = await produced(store, session, 1)
    advance(900)
    t.not(await store.readArtifact(session, id), undefined)
    advance(900)
    t.equal((await store.listArtifacts(session)).length, 1, 'use renewed it')
    t.equal(await store.allocateArtifact(session, newArtifact()), 'at_capacity')
    advance(101)
    t.equal(await store.readArtifact(session, id), undefined)
    t.strictSame(await store.listArtifacts(session), [])
    t.equal(await store.allocateArtifact(session, newArtifact()), 'allocated')
    t.match(await sweptBy(store, 10, [session]), {
      removedArtifacts: 1,
      files: [refTo(session, 'artifacts', id)],
    })
  })
}
