/** Leases of calls in a state store, and what keeps a session from ending. */
import type { Test } from 'tap'

import type { ContractOpener } from './contract-subject.ts'
import {
  finalOf,
  newArtifact,
  newSession,
  opened,
  policyWith,
  reserved,
  sweptBy,
} from './store-fixtures.ts'

export function callTests(t: Test, open: ContractOpener): void {
  t.test('no more calls are entered than may be in flight, all of a lease or none', async (t) => {
    const { store } = await open(t, policyWith({ maxInFlightPerSession: 3 }))
    const [session, other] = [await opened(store), await opened(store)]
    t.equal(await store.enterCalls(session, 'a', 2, 0), 2)
    t.equal(await store.enterCalls(session, 'b', 2, 0), 'at_limit')
    t.equal(await store.enterCalls(session, 'c', 1, 0), 1)
    t.equal(await store.enterCalls(session, 'd', 1, 0), 'at_limit')
    t.equal(await store.enterCalls(other, 'a', 3, 0), 3, 'each session has its own')
    await store.leaveCalls(session, 'unknown')
    await store.leaveCalls(session, 'a')
    await store.leaveCalls(session, 'a')
    t.equal(await store.enterCalls(session, 'd', 3, 0), 'at_limit', 'a lease is left once')
    t.equal(await store.enterCalls(session, 'd', 2, 0), 2)
    await store.leaveCalls(session, 'c')
    await store.leaveCalls(session, 'd')
    t.equal(await store.enterCalls(session, 'e', 3, 0), 3)
  })

  t.test('a lease that is entered again has the new count, not both', async (t) => {
    const { store } = await open(t, policyWith({ maxInFlightPerSession: 3 }))
    const session = await opened(store)
    t.equal(await store.enterCalls(session, 'a', 2, 0), 2)
    t.equal(await store.enterCalls(session, 'a', 2, 0), 2, 'asked again, for example')
    t.equal(await store.enterCalls(session, 'a', 4, 0), 'at_limit')
    t.equal(await store.enterCalls(session, 'b', 2, 0), 'at_limit')
    t.equal(await store.enterCalls(session, 'b', 1, 0), 1)
  })

  t.test('what is no number of calls is refused as a mistake of the caller', async (t) => {
    const { store } = await open(t, policyWith({ maxInFlightPerSession: 3 }))
    const session = await opened(store)
    t.equal(await store.enterCalls(session, 'nothing', 0, 0), 0)
    await store.leaveCalls(session, 'nothing')
    await t.rejects(store.enterCalls(session, 'a', -1, 0))
    await t.rejects(store.enterCalls(session, 'a', Number.NaN, 0))
    await t.rejects(store.enterCalls(session, 'a', 0.5, 0))
    t.equal(await store.enterCalls(session, 'b', 3, 0), 3)
  })

  t.test('spare places are granted while half of the limit stays free', async (t) => {
    const { store } = await open(t, policyWith({ maxInFlightPerSession: 16 }))
    const session = await opened(store)
    t.equal(await store.enterCalls(session, 'a', 1, 4), 5)
    t.equal(await store.enterCalls(session, 'b', 1, 2), 8 - 5)
    t.equal(await store.enterCalls(session, 'c', 1, 1), 1, 'half of it is taken')
    t.equal(await store.enterCalls(session, 'a', 2, 4), 2, 'the lease has what it needs')
    t.equal(await store.enterCalls(session, 'a', 2, 2), 4)
    await store.leaveCalls(session, 'b')
    t.equal(await store.enterCalls(session, 'a', 3, 4), 7)
  })

  t.test('who is refused for want of places that others do not use is told to wait', async (t) => {
    const { store } = await open(t, policyWith({ maxInFlightPerSession: 4, callLeaseMs: 1_000 }))
    const session = await opened(store)
    t.equal(await store.enterCalls(session, 'a', 1, 1), 2)
    t.equal(await store.enterCalls(session, 'b', 3, 0), 'wait')
    t.equal(await store.enterCalls(session, 'a', 1, 0), 1, 'gives back what it does not use')
    t.equal(await store.enterCalls(session, 'b', 3, 0), 3)
    t.equal(await store.enterCalls(session, 'c', 1, 0), 'at_limit')
    t.equal(await store.enterCalls(session, 'b', 4, 0), 'at_limit', 'and keeps what it has')
    await store.leaveCalls(session, 'a')
    t.equal(await store.enterCalls(session, 'c', 1, 0), 1)
  })

  t.test('without a limit every call is entered', async (t) => {
    const { store } = await open(t, policyWith({}))
    const session = await opened(store)
    t.equal(await store.enterCalls(session, 'a', 1_000_000, 0), 1_000_000)
    t.equal(await store.enterCalls(session, 'b', 1_000_000, 0), 1_000_000)
  })

  t.test('a lease that nobody renews ends; renewing keeps what has not ended', async (t) => {
    const { store, advance } = await open(
      t,
      policyWith({ maxInFlightPerSession: 2, callLeaseMs: 1_000 }),
    )
    const session = await opened(store)
    await store.enterCalls(session, 'kept', 1, 0)
    await store.enterCalls(session, 'lost', 1, 0)
    advance(1_000)
    t.equal(await store.enterCalls(session, 'new', 1, 0), 'at_limit', 'not earlier')
    await store.keepAlive([{ key: session, callLeases: ['kept', 'unknown'] }])
    advance(1)
    t.equal(await store.enterCalls(session, 'new', 2, 0), 'at_limit')
    t.equal(await store.enterCalls(session, 'new', 1, 0), 1, 'the lost one has ended')
    await store.keepAlive([{ key: session, callLeases: ['lost'] }])
    t.equal(await store.enterCalls(session, 'newer', 1, 0), 'at_limit', 'what ended is not renewed')
    advance(1_001)
    t.equal(await store.enterCalls(session, 'newest', 2, 0), 2)
  })

  t.test('only an active session takes calls', async (t) => {
    const { store, advance } = await open(t, policyWith({ idleTtlMs: 1_000 }))
    const session = await opened(store)
    t.equal(await store.enterCalls(newSession(), 'a', 1, 0), 'session_gone')
    advance(1_001)
    t.equal(await store.enterCalls(session, 'a', 1, 0), 'session_gone')
    await store.reviveSession(session)
    t.equal(await store.enterCalls(session, 'a', 1, 0), 1)
    await store.closeSession(session)
    t.equal(await store.enterCalls(session, 'b', 1, 0), 'session_gone')
    await store.leaveCalls(session, 'a')
  })

  t.test('what a process works for is kept from ending', async (t) => {
    const { store, advance } = await open(
      t,
      policyWith({ idleTtlMs: 60_000, tombstoneTtlMs: 100_000, pendingGraceMs: 50_000 }),
    )
    const [session, left] = [await opened(store), await opened(store)]
    const pending = newArtifact()
    await store.allocateArtifact(session, pending)
    await reserved(store, session, 7)
    for (let i = 0; i < 8; i++) {
      advance(45_000)
      // Each beat comes after the time before it has passed.
      // oxlint-disable-next-line no-await-in-loop
      await store.keepAlive([
        { key: session, callLeases: [] },
        { key: newSession(), callLeases: ['x'] },
      ])
    }
    await sweptBy(store, 10, [])
    t.equal((await store.readSession(session))?.state, 'active')
    t.equal(await store.readSession(left), undefined)
    t.equal((await store.inventory()).reservedBytes, 7)
    t.match(await store.commitArtifact(session, pending.artifactId, finalOf(1)), { ok: true })
  })

  t.test('keeping a session that lost its slot does not revive it', async (t) => {
    const { store, advance } = await open(
      t,
      policyWith({ idleTtlMs: 1_000, tombstoneTtlMs: 5_000 }),
    )
    const session = await opened(store)
    advance(1_001)
    await sweptBy(store, 10, [])
    advance(4_000)
    await store.keepAlive([{ key: session, callLeases: [] }])
    t.equal((await store.readSession(session))?.state, 'tombstoned')
    advance(4_000)
    await sweptBy(store, 10, [])
    t.equal((await store.readSession(session))?.state, 'tombstoned', 'its time begins anew')
    t.equal((await store.inventory()).sessions, 0)
    advance(1_001)
    t.equal(await store.readSession(session), undefined)
  })

  t.test('a touch answers what the copy of a session must agree with', async (t) => {
    const { store, advance } = await open(t, policyWith({ idleTtlMs: 1_000 }))
    const [first, stateless, idle] = [
      await opened(store),
      await opened(store, newSession({ upstreamSessionId: null })),
      await opened(store, newSession({ upstreamSessionId: '' })),
    ]
    t.strictSame(await store.touchSessions([first, newSession(), stateless, idle]), [
      'upstream-1',
      undefined,
      null,
      '',
    ])
    await store.replaceUpstreamSession({ ...first, upstreamSessionId: 'upstream-2' }, 'upstream-1')
    advance(900)
    t.strictSame(await store.touchSessions([first, stateless]), ['upstream-2', null])
    advance(900)
    t.strictSame(await store.touchSessions([idle, first]), [undefined, 'upstream-2'])
    await store.closeSession(first)
    t.strictSame(await store.touchSessions([first]), [undefined])
    t.strictSame(await store.touchSessions([]), [])
  })

  t.test('one of all that notice a lost upstream session initialises it again', async (t) => {
    const { store, advance } = await open(t, policyWith({}))
    const session = await opened(store)
    const claim = (holder: string, lost = 'upstream-1'): Promise<string> =>
      store.claimReinitialisation(session, holder, lost, 1_000)
    t.strictSame(await Promise.all([claim('a'), claim('b'), claim('c')]), [
      'claimed',
      'busy',
      'busy',
    ])
    t.equal(await claim('a'), 'claimed', 'who has the task has it')
    await store.endReinitialisation(session, 'b')
    t.equal(await claim('b'), 'busy')
    advance(1_001)
    t.equal(await claim('b'), 'claimed', 'the first one took too long')
    await store.endReinitialisation(session, 'a')
    t.equal(await claim('c'), 'busy')
    await store.replaceUpstreamSession({ ...session, upstreamSessionId: 'new' }, 'upstream-1')
    t.equal(await claim('c'), 'done')
    await store.endReinitialisation(session, 'b')
    t.equal(await claim('c', 'new'), 'claimed')
    t.equal(await store.claimReinitialisation(newSession(), 'a', null, 1_000), 'session_gone')
  })
}
