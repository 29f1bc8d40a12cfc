/** The life of sessions in a state store. */
import type { Test } from 'tap'

import type { ContractOpener } from './contract-subject.ts'
import {
  finalOf,
  newArtifact,
  newSession,
  newUpload,
  opened,
  policyWith,
  reserved,
  sweptBy,
  uploaded,
} from './store-fixtures.ts'

export function sessionTests(t: Test, open: ContractOpener): void {
  t.test('a session is read back as it was opened, and is gone when closed', async (t) => {
    const { store } = await open(t, policyWith({}))
    const session = await opened(store)
    const view = await store.readSession(session)
    t.strictSame(view?.record, session)
    t.equal(view?.state, 'active')
    t.equal(view?.terminalReason, null)
    t.equal(await store.readSession({ ...session, serverId: 'other' }), undefined)
    t.strictSame(await store.closeSession(session), session)
    t.equal(await store.readSession(session), undefined)
    t.equal(await store.closeSession(session), undefined)
    t.equal(await store.reviveSession(session), 'gone')
    t.equal(await store.replaceUpstreamSession(session, 'upstream-1'), false)
  })

  t.test('operations of a closed session say so, and leave nothing behind', async (t) => {
    const { store } = await open(t, policyWith({}))
    const session = await opened(store)
    const { reservationId } = await reserved(store, session, 10)
    const kept = await uploaded(store, session, 5)
    const artifact = newArtifact()
    await store.allocateArtifact(session, artifact)
    await store.closeSession(session)
    t.strictSame(await store.reserveBytes(session, 1), { ok: false, reason: 'session_gone' })
    t.strictSame(await store.reserveBytes(session, 1, reservationId), {
      ok: false,
      reason: 'session_gone',
    })
    t.strictSame(await store.commitUploads(session, reservationId, [newUpload(1)]), {
      ok: false,
      reason: 'session_gone',
    })
    t.strictSame(await store.resolveUploads(session, [kept]), {
      ok: false,
      uploadId: kept,
      reason: 'session_gone',
    })
    t.equal(await store.allocateArtifact(session, newArtifact()), 'session_gone')
    t.strictSame(await store.commitArtifact(session, artifact.artifactId, finalOf(1)), {
      ok: false,
      reason: 'session_gone',
    })
    t.strictSame(await store.listArtifacts(session), [])
    t.equal(await store.readArtifact(session, artifact.artifactId), undefined)
    t.equal(await store.referencedItems(session), undefined)
    await store.touchSessions([session])
    await store.touchPending(session, [artifact.artifactId])
    await store.dropArtifact(session, artifact.artifactId)
    await store.releaseBytes(session, reservationId)
    t.strictSame(await store.inventory(), {
      sessions: 0,
      tombstones: 0,
      uploads: 0,
      artifacts: 0,
      pendingArtifacts: 0,
      bytes: 0,
      reservedBytes: 0,
    })
  })

  t.test('no more sessions are opened than may be active', async (t) => {
    const { store } = await open(t, policyWith({ maxActiveSessions: 2 }))
    const first = await opened(store)
    await opened(store)
    t.equal(await store.openSession(newSession()), 'at_capacity')
    await store.closeSession(first)
    t.equal(await store.openSession(newSession()), 'opened')
    t.equal(await store.openSession(newSession()), 'at_capacity')
    t.equal((await store.inventory()).sessions, 2)
  })

  t.test('an id that is in use is refused as a mistake of the caller', async (t) => {
    const { store } = await open(t, policyWith({}))
    const session = await opened(store)
    await t.rejects(store.openSession(session), { name: 'Error' })
    t.strictSame((await store.readSession(session))?.record, session)
  })

  t.test('only one of two callers replaces a lost upstream session', async (t) => {
    const { store } = await open(t, policyWith({}))
    const session = await opened(store)
    const replaced = await Promise.all(
      ['a', 'b', 'c'].map((id) =>
        store.replaceUpstreamSession({ ...session, upstreamSessionId: id }, 'upstream-1'),
      ),
    )
    t.strictSame(replaced, [true, false, false])
    t.equal((await store.readSession(session))?.record.upstreamSessionId, 'a')
    t.equal(await store.replaceUpstreamSession({ ...session, upstreamSessionId: null }, 'a'), true)
    t.equal(await store.replaceUpstreamSession(session, null), true)
  })
}

export function lifetimeTests(t: Test, open: ContractOpener): void {
  t.test('an idle session is a tombstone before any sweep, until its time is over', async (t) => {
    const { store, advance } = await open(
      t,
      policyWith({ idleTtlMs: 1_000, tombstoneTtlMs: 5_000 }),
    )
    const session = await opened(store)
    advance(1_000)
    t.equal((await store.readSession(session))?.state, 'active')
    advance(1)
    t.equal((await store.readSession(session))?.state, 'tombstoned')
    await store.touchSessions([session])
    t.equal((await store.readSession(session))?.state, 'tombstoned', 'a touch never revives')
    t.strictSame(await store.reserveBytes(session, 1), { ok: false, reason: 'session_gone' })
    t.equal(await store.allocateArtifact(session, newArtifact()), 'session_gone')
    advance(4_999)
    t.equal((await store.readSession(session))?.state, 'tombstoned')
    advance(1)
    t.equal(await store.readSession(session), undefined)
    t.equal(await store.reviveSession(session), 'gone')
  })

  t.test('touches keep a session active', async (t) => {
    const { store, advance } = await open(t, policyWith({ idleTtlMs: 1_000 }))
    const session = await opened(store)
    const unknown = newSession()
    for (let i = 0; i < 5; i++) {
      advance(900)
      // Each touch comes after the time before it has passed.
      await store.touchSessions([unknown, session])
    }
    t.equal((await store.readSession(session))?.state, 'active')
    t.equal(await store.readSession(unknown), undefined)
  })

  t.test('a revived session is active with everything it had', async (t) => {
    const { store, advance } = await open(t, policyWith({ idleTtlMs: 1_000 }))
    const session = await opened(store)
    const upload = await uploaded(store, session, 5)
    advance(1_001)
    await sweptBy(store, 10, [])
    t.equal(await store.reviveSession(session), 'active')
    t.equal((await store.readSession(session))?.state, 'active')
    t.match(await store.resolveUploads(session, [upload]), { ok: true })
    t.equal(await store.reviveSession(session), 'active', 'also when it is active already')
    t.match(await store.inventory(), { sessions: 1, tombstones: 0, uploads: 1 })
  })

  t.test('a revival needs a free slot, and an idle session holds none', async (t) => {
    const { store, advance } = await open(t, policyWith({ idleTtlMs: 1_000, maxActiveSessions: 1 }))
    const first = await opened(store)
    t.equal(await store.openSession(newSession()), 'at_capacity')
    advance(1_001)
    const second = await opened(store)
    t.equal(await store.reviveSession(first), 'at_capacity')
    t.equal((await store.readSession(first))?.state, 'tombstoned')
    advance(1_001)
    t.equal(await store.reviveSession(first), 'active')
    t.equal((await store.readSession(second))?.state, 'tombstoned')
    t.match(await store.inventory(), { sessions: 1, tombstones: 1 })
    advance(1_001)
    t.equal(await store.reviveSession(first), 'active', 'its own slot does not stand in its way')
  })

  t.test('without revival an idle session is gone at once', async (t) => {
    const { store, advance } = await open(
      t,
      policyWith({ idleTtlMs: 1_000, allowRevival: false, maxActiveSessions: 1 }),
    )
    const session = await opened(store)
    await uploaded(store, session, 5)
    advance(1_001)
    t.equal(await store.readSession(session), undefined)
    t.equal(await store.reviveSession(session), 'gone')
    const second = await opened(store)
    t.match(await sweptBy(store, 10, []), { removedTombstones: 1, sessions: [session] })
    advance(1_001)
    t.match(await sweptBy(store, 10, []), { expiredSessions: 1, sessions: [second] })
    t.match(await store.inventory(), { sessions: 0, tombstones: 0, uploads: 0, bytes: 0 })
  })
}
