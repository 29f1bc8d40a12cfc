/** `fallback_memory`: what a replica goes on with while Redis is away, and what is shared again afterwards. */
import t from 'tap'
import type { Test } from 'tap'

import type { RemoteStore } from '../../src/shared/state/remote.ts'
import type { StoreMode } from '../../src/shared/state/store-requests.ts'
import { eventually } from '../support/eventually.ts'
import { freePort, startRedis } from '../support/redis.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'
import type { TcpProxy } from '../support/tcp-proxy.ts'
import { newKeyBase } from './redis-subject.ts'
import { startState } from './shared-state-subject.ts'
import type { RunningState } from './shared-state-subject.ts'
import {
  finalOf,
  newArtifact,
  newSession,
  opened,
  policyWith,
  produced,
  uploaded,
} from './store-fixtures.ts'
import { connectionTo } from './watching-replica.ts'

t.setTimeout(600_000)

interface Split {
  readonly proxy: TcpProxy
  /** The one that can be cut off. */
  readonly one: RunningState
  readonly other: RunningState
}

/** Two replicas, one of them behind a proxy that can be cut. */
async function split(t: Test, policy = policyWith({})): Promise<Split> {
  const redis = await startRedis(t)
  const proxy = await startTcpProxy(t, redis.port)
  const keyBase = newKeyBase()
  const one = await startState(t, {
    connection: connectionTo(proxy.port),
    keyBase,
    policy,
    unavailablePolicy: 'fallback_memory',
  })
  const other = await startState(t, { connection: connectionTo(redis.port), keyBase, policy })
  await eventually('both know each other', () => one.report().replicas === 2)
  return { proxy, one, other }
}

async function inMode(store: RemoteStore, mode: StoreMode): Promise<void> {
  await eventually(`the store is in mode ${mode}`, () => store.mode === mode)
}

t.test(
  'a replica that is cut off goes on with the sessions and files that it had seen',
  async (t) => {
    const { proxy, one, other } = await split(t)
    const [store, elsewhere] = [one.connect(), other.connect()]
    const modes: StoreMode[] = []
    store.onModeChange((mode) => modes.push(mode))
    const seen = await opened(store)
    const upload = await uploaded(store, seen, 7)
    const { id: artifact } = await produced(store, seen, 5)
    const [pending, later] = [newArtifact(), newArtifact()]
    await store.allocateArtifact(seen, pending)
    const claim = await store.claimStream(seen, 'holder', null)
    if (!claim.ok) throw new Error(claim.reason)
    const never = await opened(elsewhere)

    proxy.cut()
    await inMode(store, 'memory')
    t.strictSame((await store.readSession(seen))?.record, seen)
    t.match(await store.resolveUploads(seen, [upload]), { ok: true })
    t.match(await store.readArtifact(seen, artifact), { sizeBytes: 5 })
    t.strictSame(
      await store.renewStreams('holder', [{ key: seen, epoch: claim.epoch }]),
      [],
      'its streams stay its own',
    )
    t.match(
      await store.commitArtifact(seen, pending.artifactId, finalOf(3)),
      { ok: true },
      'a call that was under way keeps its file',
    )
    await store.allocateArtifact(seen, later)
    t.equal(await store.readSession(never), undefined, 'what it had not seen it does not know')
    t.ok(store.callsBack, 'changes of the stand-in are called out')
    t.strictSame(store.replicas, [], 'it does not pretend to be one of several')
    t.match(one.report(), { isAvailable: false, mode: 'memory' })
    t.match(one.failures.join('\n'), /beginning with 1 sessions; other replicas don't see it/)

    proxy.heal()
    await inMode(store, 'shared')
    t.strictSame(modes, ['memory', 'shared'])
    t.match(await elsewhere.readArtifact(seen, pending.artifactId), { sizeBytes: 3 })
    t.match(
      await store.commitArtifact(seen, later.artifactId, finalOf(4)),
      { ok: true },
      'so does one that is under way now',
    )
    t.match(await store.readSession(never), { record: never })
    t.match(one.warnings.join('\n'), /state is shared again/)
  },
)

t.test('what happened meanwhile is brought into the shared store', async (t) => {
  const { proxy, one, other } = await split(t)
  const [store, elsewhere] = [one.connect(), other.connect()]
  const [kept, closedHere, closedThere, renewed] = [
    await opened(store),
    await opened(store),
    await opened(store),
    await opened(store),
  ] as const
  proxy.cut()
  await inMode(store, 'memory')
  const fresh = await opened(store)
  const freshUpload = await uploaded(store, fresh, 9)
  const laterUpload = await uploaded(store, kept, 4)
  await store.closeSession(closedHere)
  await store.replaceUpstreamSession({ ...renewed, upstreamSessionId: 'again' }, 'upstream-1')
  await elsewhere.closeSession(closedThere)

  proxy.heal()
  await inMode(store, 'shared')
  t.strictSame((await elsewhere.readSession(fresh))?.record, fresh)
  t.match(await elsewhere.resolveUploads(fresh, [freshUpload]), { ok: true })
  t.match(await elsewhere.resolveUploads(kept, [laterUpload]), { ok: true })
  t.equal(await elsewhere.readSession(closedHere), undefined)
  t.equal(await store.readSession(closedThere), undefined, 'what others ended is not brought back')
  t.match(await elsewhere.readSession(renewed), { record: { upstreamSessionId: 'again' } })
  t.match(await elsewhere.inventory(), { sessions: 3, uploads: 2, bytes: 13 })
})

t.test('when Redis comes back empty, what the replica knows is brought back', async (t) => {
  const redis = await startRedis(t)
  const running = await startState(t, {
    connection: connectionTo(redis.port),
    keyBase: newKeyBase(),
    unavailablePolicy: 'fallback_memory',
  })
  const store = running.connect()
  const session = await opened(store)
  const upload = await uploaded(store, session, 7)
  await eventually('it has seen the data', () => running.report().callsBack)
  await redis.kill()
  await inMode(store, 'memory')
  await redis.restart()
  await inMode(store, 'shared')
  t.strictSame((await store.readSession(session))?.record, session)
  t.match(await store.resolveUploads(session, [upload]), { ok: true })
})

t.test('sessions beyond the limit come back as ones that can be revived', async (t) => {
  const { proxy, one, other } = await split(t, policyWith({ maxActiveSessions: 2 }))
  const [store, elsewhere] = [one.connect(), other.connect()]
  proxy.cut()
  await inMode(store, 'memory')
  const late = [await opened(store), await opened(store)]
  await opened(elsewhere)
  proxy.heal()
  await inMode(store, 'shared')
  const views = await Promise.all(late.map((session) => elsewhere.readSession(session)))
  t.strictSame(new Set(views.map((view) => view?.state)), new Set(['active', 'tombstoned']))
})

t.test('a stand-in decides nothing that is everybody’s', async (t) => {
  const { proxy, one } = await split(t)
  const store = one.connect()
  const session = await opened(store)
  const fence = await store.electMaintainer(one.id, 60_000)
  t.type(fence, 'number')
  proxy.cut()
  await inMode(store, 'memory')
  t.equal(await store.electMaintainer(one.id, 1_000), null)
  t.equal(await store.sweep(10, [], fence), 'fenced')
  t.equal(await store.sweep(10, [], null), 'fenced')
  t.equal(await store.repairCounters(fence), 'fenced')
  t.strictSame(await store.recoverAfterCrash(), [])
  const unavailable = { name: 'StoreUnavailableError' }
  await t.rejects(store.referencedItems(session), unavailable)
  await t.rejects(store.adopt(newSession(), [], []), unavailable)
  await t.rejects(store.clear(), unavailable)
})

t.test('a replica that starts without Redis begins with an empty stand-in', async (t) => {
  const port = await freePort()
  const running = await startState(t, {
    connection: connectionTo(port),
    keyBase: newKeyBase(),
    unavailablePolicy: 'fallback_memory',
  })
  const store = running.connect()
  const session = await opened(store)
  await inMode(store, 'memory')
  await startRedis(t, { port })
  await inMode(store, 'shared')
  t.strictSame((await store.readSession(session))?.record, session)
})

t.test('no request is lost while sessions are brought back', async (t) => {
  const { proxy, one } = await split(t)
  const store = one.connect()
  proxy.cut()
  await inMode(store, 'memory')
  const sessions = await Promise.all(Array.from({ length: 300 }, () => opened(store)))
  proxy.heal()
  const outcomes: boolean[] = []
  for (let index = 0; store.mode === 'memory' || index < sessions.length; index++) {
    const session = sessions[index % sessions.length]
    if (session === undefined) break
    // oxlint-disable-next-line no-await-in-loop -- one after the other, throughout the change
    outcomes.push((await store.readSession(session)) !== undefined)
  }
  t.ok(outcomes.every(Boolean), `${outcomes.length} reads`)
  t.match(await store.inventory(), { sessions: 300 })
})
