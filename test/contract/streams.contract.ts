/** Leases of standalone streams, and what is kept for clients without one, in a state store. */
import type { Test } from 'tap'

import type { SessionKey } from '../../src/shared/state/records.ts'
import type { StateStore } from '../../src/shared/state/store.ts'
import type { ContractOpener } from './contract-subject.ts'
import { newSession, opened, policyWith, sweptBy } from './store-fixtures.ts'

/** Claims; throws when refused. */
async function claimed(store: StateStore, key: SessionKey, holder: string): Promise<number> {
  const claim = await store.claimStream(key, holder, null)
  if (!claim.ok) throw new Error(claim.reason)
  return claim.epoch
}

export function streamTests(t: Test, open: ContractOpener): void {
  t.test('a stream has one holder, under an epoch that only grows', async (t) => {
    const { store } = await open(t, policyWith({}))
    const session = await opened(store)
    const first = await store.claimStream(session, 'a', null)
    t.match(first, { ok: true, previousHolder: null })
    const second = await store.claimStream(session, 'b', null)
    t.match(second, { ok: true, previousHolder: 'a' })
    if (!first.ok || !second.ok) throw new Error('no lease')
    t.ok(second.epoch > first.epoch)
    const { serverId, sessionId } = session
    const key = { serverId, sessionId }
    t.strictSame(
      await store.renewStreams('a', [{ key, epoch: first.epoch }]),
      [key],
      'the first must stop',
    )
    t.strictSame(await store.renewStreams('b', [{ key, epoch: second.epoch }]), [])
    t.strictSame(await store.renewStreams('a', [{ key, epoch: second.epoch }]), [key])
    await store.releaseStream(session, first.epoch, 'closed')
    t.strictSame(await store.renewStreams('b', [{ key, epoch: second.epoch }]), [])
    t.strictSame(await store.claimStream(newSession(), 'a', null), {
      ok: false,
      reason: 'session_gone',
    })
  })

  t.test('of many that want a lease which ended one gets it', async (t) => {
    const { store, advance } = await open(t, policyWith({ streamLeaseMs: 1_000 }))
    const session = await opened(store)
    const epoch = await claimed(store, session, 'a')
    advance(1_000)
    t.strictSame(await store.claimStream(session, 'b', epoch), {
      ok: false,
      reason: 'epoch_passed',
    })
    t.strictSame(await store.abandonedStreams([], 10), [])
    advance(1)
    const { serverId, sessionId } = session
    t.strictSame(await store.abandonedStreams([], 10), [{ key: { serverId, sessionId }, epoch }])
    const claims = await Promise.all(
      ['b', 'c', 'd'].map((holder) => store.claimStream(session, holder, epoch)),
    )
    t.match(claims, [{ ok: true, previousHolder: 'a' }, { ok: false }, { ok: false }])
    t.strictSame(await store.abandonedStreams([], 10), [])
  })

  t.test('a renewed lease goes on, and one that ended can still be renewed', async (t) => {
    const { store, advance } = await open(t, policyWith({ streamLeaseMs: 1_000 }))
    const session = await opened(store)
    const epoch = await claimed(store, session, 'a')
    for (let i = 0; i < 3; i++) {
      advance(900)
      // oxlint-disable-next-line no-await-in-loop -- each renewal comes after the time before it
      t.strictSame(await store.renewStreams('a', [{ key: session, epoch }]), [])
    }
    t.match(await store.claimStream(session, 'b', epoch), { reason: 'epoch_passed' })
    advance(1_001)
    t.strictSame(await store.renewStreams('a', [{ key: session, epoch }]), [], 'nobody took it')
    t.match(await store.claimStream(session, 'b', epoch), { reason: 'epoch_passed' })
  })

  t.test('a lease that was handed over or closed is free at once', async (t) => {
    const { store } = await open(t, policyWith({}))
    const [handed, ended] = [await opened(store), await opened(store)]
    const epochs = [await claimed(store, handed, 'a'), await claimed(store, ended, 'a')] as const
    await store.releaseStream(handed, epochs[0], 'hand_over')
    await store.releaseStream(ended, epochs[1], 'closed')
    const { serverId, sessionId } = handed
    t.strictSame(
      await store.abandonedStreams([], 10),
      [{ key: { serverId, sessionId }, epoch: epochs[0] }],
      'what was closed waits for nobody',
    )
    t.match(await store.claimStream(handed, 'b', epochs[0]), { ok: true, previousHolder: 'a' })
    t.strictSame(await store.abandonedStreams([], 10), [])
    t.match(await store.claimStream(ended, 'b', epochs[1]), { ok: true, previousHolder: null })
    t.match(await store.claimStream(ended, 'c', epochs[1]), { reason: 'epoch_passed' })
  })

  t.test('a session that never had a stream is claimed as epoch 0', async (t) => {
    const { store } = await open(t, policyWith({}))
    const session = await opened(store)
    t.match(await store.claimStream(session, 'a', 1), { reason: 'epoch_passed' })
    t.match(await store.claimStream(session, 'a', 0), { ok: true, previousHolder: null })
    t.match(await store.claimStream(session, 'b', 0), { reason: 'epoch_passed' })
  })

  t.test('the streams of a lost replica are found before their leases end', async (t) => {
    const { store, advance } = await open(t, policyWith({ streamLeaseMs: 1_000 }))
    const sessions = await Promise.all([opened(store), opened(store), opened(store), opened(store)])
    const [first, second, moved, foreign] = sessions
    const epoch = await claimed(store, first, 'dead:1')
    await claimed(store, second, 'dead:2')
    await claimed(store, moved, 'dead:1')
    await claimed(store, moved, 'alive:1')
    await claimed(store, foreign, 'alive:2')
    const idsOf = async (holders: string[], limit: number): Promise<string[]> =>
      (await store.abandonedStreams(holders, limit)).map(({ key }) => key.sessionId).toSorted()
    t.match(await store.claimStream(first, 'alive:1', epoch), { reason: 'epoch_passed' })
    t.strictSame(await idsOf(['nobody'], 10), [])
    t.equal((await idsOf(['dead:'], 1)).length, 1)
    t.strictSame(await idsOf(['dead:'], 10), [first.sessionId, second.sessionId].toSorted())
    t.strictSame(
      await idsOf([], 10),
      [first.sessionId, second.sessionId].toSorted(),
      'from then on',
    )
    t.strictSame(await store.renewStreams('dead:1', [{ key: first, epoch }]), [], 'it lives')
    t.strictSame(await idsOf([], 10), [second.sessionId])
    t.match(await store.claimStream(second, 'alive:1', 1), { ok: true, previousHolder: 'dead:2' })
    advance(1_001)
    t.equal((await idsOf(['dead:', 'alive:'], 10)).length, 4, 'once each')
  })

  t.test('events are kept and taken in order, by the newest holder only', async (t) => {
    const { store } = await open(t, policyWith({}))
    const session = await opened(store)
    t.equal(await store.keepEvents(session, 1, ['early']), false)
    const old = await claimed(store, session, 'a')
    t.equal(await store.keepEvents(session, old, ['{"a":1}', '{"ü":2}']), true)
    const epoch = await claimed(store, session, 'b')
    t.strictSame(await store.takeEvents(session, old), [])
    t.equal(await store.keepEvents(session, epoch, ['{"c":3}']), true)
    t.strictSame(await store.takeEvents(session, epoch), ['{"a":1}', '{"ü":2}', '{"c":3}'])
    t.strictSame(await store.takeEvents(session, epoch), [])
    t.equal(await store.keepEvents(session, epoch, []), true)
    t.equal(await store.keepEvents(newSession(), 1, ['x']), false)
    t.strictSame(await store.takeEvents(newSession(), 1), [])
  })

  t.test('what a holder had received when the next one took over is not lost', async (t) => {
    const { store } = await open(t, policyWith({}))
    const session = await opened(store)
    const first = await claimed(store, session, 'a')
    const second = await claimed(store, session, 'b')
    t.equal(await store.keepEvents(session, first, ['received']), false, 'but it has to stop')
    t.strictSame(await store.takeEvents(session, second), ['received'])
    const third = await claimed(store, session, 'c')
    t.equal(await store.keepEvents(session, first, ['stale']), false)
    t.strictSame(await store.takeEvents(session, third), [], 'an older one has nothing to say')
  })

  t.test('the oldest events give way, by number and by size', async (t) => {
    const { store } = await open(t, policyWith({}))
    const session = await opened(store)
    const epoch = await claimed(store, session, 'a')
    const many = Array.from({ length: 300 }, (_, index) => `event ${index}`)
    await store.keepEvents(session, epoch, many.slice(0, 200))
    await store.keepEvents(session, epoch, many.slice(200))
    t.strictSame(await store.takeEvents(session, epoch), many.slice(-256))
    const large = ['a', 'b', 'c', 'd', 'e'].map((letter) => letter.repeat(300_000))
    await store.keepEvents(session, epoch, large)
    t.equal((await store.takeEvents(session, epoch)).map(([letter]) => letter).join(''), 'cde')
    await store.keepEvents(session, epoch, ['kept', 'x'.repeat(1_048_577)])
    t.strictSame(await store.takeEvents(session, epoch), [], 'one that is too large keeps nothing')
    await store.keepEvents(session, epoch, ['small'])
    t.strictSame(await store.takeEvents(session, epoch), ['small'])
  })

  t.test('a session takes its stream and events with it', async (t) => {
    const { store, advance } = await open(
      t,
      policyWith({ idleTtlMs: 1_000, tombstoneTtlMs: 1_000 }),
    )
    const [closed, swept] = [await opened(store), await opened(store)]
    const epochs = [await claimed(store, closed, 'a'), await claimed(store, swept, 'a')] as const
    await store.keepEvents(swept, epochs[1], ['x'])
    await store.closeSession(closed)
    t.equal(await store.keepEvents(closed, epochs[0], ['x']), false)
    advance(1_001)
    await sweptBy(store, 10, [])
    t.strictSame(await store.takeEvents(swept, epochs[1]), ['x'], 'a tombstone keeps them')
    advance(1_001)
    await sweptBy(store, 10, [])
    t.strictSame(await store.abandonedStreams(['a'], 10), [])
    t.strictSame(await store.renewStreams('a', [{ key: closed, epoch: epochs[0] }]), [closed])
    t.match(await store.claimStream(swept, 'b', null), { reason: 'session_gone' })
  })
}
