/** Room for bytes in a state store. */
import type { Test } from 'tap'

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
  uploaded,
} from './store-fixtures.ts'

export function quotaTests(t: Test, open: ContractOpener): void {
  t.test('the last byte of a session can be had, and not one more', async (t) => {
    const { store } = await open(t, policyWith({ maxSessionBytes: 10 }))
    const session = await opened(store)
    const { reservationId } = await reserved(store, session, 6)
    t.match(await store.reserveBytes(session, 5), { ok: false, reason: 'session_quota' })
    t.match(await store.reserveBytes(session, 4), { ok: true })
    t.match(await store.reserveBytes(session, 1, reservationId), { reason: 'session_quota' })
    t.match(await store.reserveBytes(await opened(store), 10), { ok: true })
  })

  t.test('the oldest items make room, only as many as needed', async (t) => {
    const { store, advance } = await open(t, policyWith({ maxSessionBytes: 10 }))
    const session = await opened(store)
    const first = await uploaded(store, session, 3)
    advance(1)
    const second = await uploaded(store, session, 3)
    advance(1)
    const third = await uploaded(store, session, 3)
    advance(1)
    await store.resolveUploads(session, [first])
    const room = await reserved(store, session, 2)
    t.strictSame(room.evicted, [refTo(session, 'uploads', second)])
    t.match(await store.resolveUploads(session, [second]), { reason: 'unknown' })
    t.match(await store.resolveUploads(session, [first, third]), { ok: true })
    t.match(await store.inventory(), { bytes: 6, reservedBytes: 2 })
  })

  t.test('nothing is evicted for what would not fit anyway', async (t) => {
    const { store } = await open(t, policyWith({ maxSessionBytes: 10, maxTotalBytes: 15 }))
    const session = await opened(store)
    const upload = await uploaded(store, session, 4)
    const { id } = await produced(store, session, 4)
    t.match(await store.reserveBytes(session, 11), { ok: false, reason: 'session_quota' })
    const other = await opened(store)
    const held = await reserved(store, other, 7)
    t.strictSame(await store.reserveBytes(session, 5), { ok: false, reason: 'global_quota' })
    t.match(await store.resolveUploads(session, [upload]), { ok: true })
    t.not(await store.readArtifact(session, id), undefined)
    t.match(await store.inventory(), { bytes: 8, reservedBytes: 7 })
    await store.releaseBytes(other, held.reservationId)
    t.match(await store.reserveBytes(session, 10), {
      ok: true,
      evicted: [refTo(session, 'uploads', upload), refTo(session, 'artifacts', id)],
    })
  })

  t.test('the policy says which kind is evicted first', async (t) => {
    for (const evictionPolicy of [
      'lru_uploads_then_artifacts',
      'lru_artifacts_then_uploads',
    ] as const) {
      // oxlint-disable-next-line no-await-in-loop -- one store at a time
      await t.test(evictionPolicy, async (t) => {
        const { store, advance } = await open(
          t,
          policyWith({ maxSessionBytes: 10, evictionPolicy }),
        )
        const session = await opened(store)
        const { id: oldArtifact } = await produced(store, session, 5)
        advance(1)
        const upload = await uploaded(store, session, 5)
        const uploadsFirst = evictionPolicy === 'lru_uploads_then_artifacts'
        const ref = uploadsFirst
          ? refTo(session, 'uploads', upload)
          : refTo(session, 'artifacts', oldArtifact)
        t.strictSame((await reserved(store, session, 1)).evicted, [ref])
      })
    }
  })

  t.test('what has expired is evicted before anything that can be used', async (t) => {
    const { store, advance } = await open(
      t,
      policyWith({ maxSessionBytes: 10, artifactTtlMs: 1_000 }),
    )
    const session = await opened(store)
    const upload = await uploaded(store, session, 5)
    const { id } = await produced(store, session, 5)
    advance(1_001)
    t.strictSame((await reserved(store, session, 5)).evicted, [refTo(session, 'artifacts', id)])
    t.match(await store.resolveUploads(session, [upload]), { ok: true })
  })

  t.test('an artifact makes room for itself and never evicts itself or pending ones', async (t) => {
    const { store, advance } = await open(
      t,
      policyWith({ maxSessionBytes: 10, evictionPolicy: 'lru_artifacts_then_uploads' }),
    )
    const session = await opened(store)
    const running = newArtifact()
    await store.allocateArtifact(session, running)
    advance(1)
    const { id: first } = await produced(store, session, 8)
    advance(1)
    const { id: second, outcome } = await produced(store, session, 10)
    t.match(outcome, { ok: true, evicted: [refTo(session, 'artifacts', first)] })
    t.not(await store.readArtifact(session, second), undefined)
    t.match(await store.inventory(), { bytes: 10, artifacts: 1, pendingArtifacts: 1 })
    t.match(await store.commitArtifact(session, running.artifactId, finalOf(11)), {
      ok: false,
      reason: 'session_quota',
    })
    t.match(await store.inventory(), { bytes: 10, artifacts: 1, pendingArtifacts: 0 })
    t.strictSame(await store.referencedItems(session), {
      uploads: [],
      artifacts: [second],
      isReserving: false,
    })
  })

  t.test('reservations count in the total limit, whoever holds them', async (t) => {
    const { store } = await open(t, policyWith({ maxTotalBytes: 10 }))
    const [first, second] = [await opened(store), await opened(store)]
    const { reservationId } = await reserved(store, first, 6)
    t.match(await store.reserveBytes(second, 5), { ok: false, reason: 'global_quota' })
    const { outcome } = await produced(store, second, 5)
    t.match(outcome, { ok: false, reason: 'global_quota' })
    await store.commitUploads(first, reservationId, [newUpload(2)])
    t.match(await store.reserveBytes(second, 8), { ok: true })
    t.match(await store.reserveBytes(first, 1), { ok: false, reason: 'global_quota' })
    t.match(await store.inventory(), { bytes: 2, reservedBytes: 8 })
  })
}
