/** Sweeping, recovery and adoption in a state store. */
import type { Test } from 'tap'

import type { SessionKey } from '../../src/shared/state/records.ts'
import { eventually } from '../support/eventually.ts'
import type { ContractOpener } from './contract-subject.ts'
import {
  finalOf,
  newArtifact,
  newSession,
  newUpload,
  opened,
  policyWith,
  refTo,
  reserved,
  sweptBy,
  uploaded,
} from './store-fixtures.ts'

export function sweepTests(t: Test, open: ContractOpener): void {
  t.test('a tombstone keeps its files until its time is over', async (t) => {
    const { store, advance } = await open(
      t,
      policyWith({ idleTtlMs: 1_000, tombstoneTtlMs: 5_000 }),
    )
    const session = await opened(store)
    const upload = await uploaded(store, session, 5)
    advance(1_001)
    t.match(await sweptBy(store, 10, []), { tombstonedSessions: 1, files: [], sessions: [] })
    t.match(await sweptBy(store, 10, []), { tombstonedSessions: 0, removedTombstones: 0 })
    t.strictSame(await store.referencedItems(session), {
      uploads: [upload],
      artifacts: [],
      isReserving: false,
    })
    advance(5_000)
    t.strictSame(await sweptBy(store, 10, []), {
      expiredSessions: 0,
      tombstonedSessions: 0,
      removedTombstones: 1,
      removedUploads: 0,
      removedArtifacts: 0,
      files: [],
      sessions: [session],
      more: false,
    })
    t.equal(await store.referencedItems(session), undefined)
    t.match(await store.inventory(), { tombstones: 0, uploads: 0, bytes: 0 })
  })

  t.test(
    'a session with a call in flight is not idle, and its pending artifacts stay',
    async (t) => {
      const { store, advance } = await open(
        t,
        policyWith({ idleTtlMs: 1_000, pendingGraceMs: 1_000 }),
      )
      const alive = await opened(store)
      const idle = await opened(store)
      const running = newArtifact()
      const lost = newArtifact()
      await store.allocateArtifact(alive, running)
      await store.allocateArtifact(idle, lost)
      advance(1_001)
      t.match(await sweptBy(store, 10, [alive, newSession()]), {
        tombstonedSessions: 1,
        removedArtifacts: 1,
        files: [refTo(idle, 'artifacts', lost.artifactId)],
      })
      t.equal((await store.readSession(alive))?.state, 'active')
      t.equal((await store.readSession(idle))?.state, 'tombstoned')
      t.match(await store.commitArtifact(alive, running.artifactId, finalOf(1)), { ok: true })
      t.match(await store.commitArtifact(idle, lost.artifactId, finalOf(1)), { reason: 'unknown' })
    },
  )

  t.test(
    'a pending artifact is dropped when its grace is over, unless it is touched',
    async (t) => {
      const { store, advance } = await open(t, policyWith({ pendingGraceMs: 1_000 }))
      const session = await opened(store)
      const [touched, lost] = [newArtifact(), newArtifact()]
      await store.allocateArtifact(session, touched)
      await store.allocateArtifact(session, lost)
      advance(900)
      await store.touchPending(session, [touched.artifactId])
      t.match(await sweptBy(store, 10, []), { removedArtifacts: 0 })
      advance(200)
      t.match(await sweptBy(store, 10, []), { removedArtifacts: 1 })
      t.strictSame(await store.referencedItems(session), {
        uploads: [],
        artifacts: [touched.artifactId],
        isReserving: false,
      })
    },
  )

  t.test('a sweep does a bounded part of the work and says when there is more', async (t) => {
    const { store, advance } = await open(
      t,
      policyWith({ idleTtlMs: 1_000, tombstoneTtlMs: 1_000, uploadTtlMs: 500 }),
    )
    const sessions = [await opened(store), await opened(store), await opened(store)]
    for (const session of sessions) {
      // oxlint-disable-next-line no-await-in-loop -- the order is the point
      await uploaded(store, session, 1)
    }
    advance(1_001)
    t.match(await sweptBy(store, 2, []), { tombstonedSessions: 2, removedUploads: 2, more: true })
    t.match(await sweptBy(store, 2, []), { tombstonedSessions: 1, removedUploads: 1, more: false })
    advance(1_000)
    const swept = await sweptBy(store, 2, [])
    t.equal(swept.sessions.length, 2)
    t.equal(swept.more, true)
    t.equal((await sweptBy(store, 2, [])).sessions.length, 1)
    t.match(await store.inventory(), { sessions: 0, tombstones: 0, uploads: 0 })
  })

  t.test('a reservation that nobody ended is given back after five minutes', async (t) => {
    const { store, advance } = await open(t, policyWith({}))
    const [alive, dead] = [await opened(store), await opened(store)]
    await reserved(store, alive, 1)
    await reserved(store, dead, 2)
    const beating = await reserved(store, dead, 4)
    advance(4 * 60_000)
    await store.reserveBytes(dead, 0, beating.reservationId)
    await sweptBy(store, 10, [])
    t.equal((await store.inventory()).reservedBytes, 7, 'not earlier')
    advance(61_000)
    await sweptBy(store, 10, [alive])
    t.equal((await store.inventory()).reservedBytes, 5, 'nor one that is in use')
  })
}

export function upkeepTests(t: Test, open: ContractOpener): void {
  t.test('what was found on disk is adopted once', async (t) => {
    const { store } = await open(t, policyWith({ maxActiveSessions: 1 }))
    const session = newSession({ upstreamSessionId: null })
    const upload = newUpload(3)
    const artifact = { ...newArtifact(), ...finalOf(4), createdAtMs: 9 }
    await store.adopt(session, [upload], [artifact])
    await store.adopt({ ...session, protocolVersion: 'other' }, [upload], [artifact])
    t.strictSame((await store.readSession(session))?.record, session)
    t.strictSame(await store.resolveUploads(session, [upload.uploadId]), {
      ok: true,
      uploads: [upload],
    })
    t.strictSame(await store.listArtifacts(session), [artifact])
    t.match(await store.inventory(), { sessions: 1, uploads: 1, artifacts: 1, bytes: 7 })
    const beyond = newSession()
    await store.adopt(beyond, [], [])
    t.equal((await store.readSession(beyond))?.state, 'tombstoned', 'it takes nobody a slot')
  })

  t.test('what a dead process left open is dropped; what was complete stays', async (t) => {
    const { store, isShared } = await open(t, policyWith({}))
    const session = await opened(store)
    const upload = await uploaded(store, session, 3)
    await reserved(store, session, 10)
    t.match(await store.referencedItems(session), { isReserving: true })
    const pending = newArtifact()
    await store.allocateArtifact(session, pending)
    if (isShared === true) {
      t.strictSame(await store.recoverAfterCrash(), [], 'the others are not dead')
      t.match(await store.inventory(), { reservedBytes: 10, pendingArtifacts: 1, bytes: 3 })
      return
    }
    t.strictSame(await store.recoverAfterCrash(), [refTo(session, 'artifacts', pending.artifactId)])
    t.strictSame(await store.referencedItems(session), {
      uploads: [upload],
      artifacts: [],
      isReserving: false,
    })
    t.match(await store.inventory(), { reservedBytes: 0, pendingArtifacts: 0, bytes: 3 })
  })

  t.test('clear leaves nothing', async (t) => {
    const { store } = await open(t, policyWith({}))
    const session = await opened(store)
    const { reservationId } = await reserved(store, session, 1)
    const nonce = { value: 'n', expiresAtMs: 1e15 }
    await store.commitUploads(session, reservationId, [newUpload(1)], nonce)
    await reserved(store, session, 1)
    await store.clear()
    t.equal(await store.readSession(session), undefined)
    t.equal(await store.isNonceUsed(session, 'n'), false)
    t.match(await store.inventory(), { sessions: 0, uploads: 0, bytes: 0, reservedBytes: 0 })
  })

  t.test('sessions that a sweep changed are called out', async (t) => {
    const { store, advance } = await open(
      t,
      policyWith({ idleTtlMs: 1_000, tombstoneTtlMs: 1_000 }),
    )
    const changed: SessionKey[] = []
    store.onInvalidate((key) => changed.push(key))
    const { serverId, sessionId } = await opened(store)
    advance(1_001)
    await sweptBy(store, 10, [])
    await eventually('the first change', () => changed.length > 0)
    t.strictSame(changed, [{ serverId, sessionId }])
    advance(1_001)
    await sweptBy(store, 10, [])
    await eventually('the second change', () => changed.length > 1)
    t.equal(changed.length, 2)
  })

  t.test('a closed store refuses, and closing again is harmless', async (t) => {
    const { store } = await open(t, policyWith({}))
    const last = store.inventory()
    await Promise.all([store.close(), store.close()])
    t.match(await last, { sessions: 0 })
    await t.rejects(store.inventory(), { name: 'StoreUnavailableError' })
    await store.close()
  })
}
