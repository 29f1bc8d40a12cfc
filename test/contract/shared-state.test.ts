/** The shared store as a replica has it: behind ports, with other replicas, and while Redis is not there. */
import t from 'tap'
import type { Test } from 'tap'

import type { SessionKey } from '../../src/shared/state/records.ts'
import type { RemoteStore } from '../../src/shared/state/remote.ts'
import { eventually, within } from '../support/eventually.ts'
import { freePort, startRedis } from '../support/redis.ts'
import type { RedisServer } from '../support/redis.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'
import { newKeyBase } from './redis-subject.ts'
import { startState } from './shared-state-subject.ts'
import type { RunningState, SharedSubject } from './shared-state-subject.ts'
import { stateStoreContract } from './state-store.contract.ts'
import { newSession, opened, policyWith } from './store-fixtures.ts'
import { connectionTo } from './watching-replica.ts'

t.setTimeout(600_000)

async function pair(
  t: Test,
  changes: Partial<SharedSubject> = {},
): Promise<readonly [RedisServer, RunningState, RunningState]> {
  const redis = await startRedis(t)
  const subject = { connection: connectionTo(redis.port), keyBase: newKeyBase(), ...changes }
  const states = [await startState(t, subject), await startState(t, subject)] as const
  await flowing(...states)
  return [redis, ...states]
}

async function flowing(...states: readonly RunningState[]): Promise<void> {
  await eventually('everybody is called back', () =>
    states.every((state) => state.report().callsBack),
  )
}

/** Waits until a request succeeds again. */
async function serves(store: RemoteStore): Promise<void> {
  await eventually('requests succeed', () =>
    store.inventory().then(
      () => true,
      () => false,
    ),
  )
}

t.test('behind a message port', async (t) => {
  const redis = await startRedis(t)
  stateStoreContract(t, async (t, policy) => {
    let nowMs = 1_000_000
    const running = await startState(t, {
      connection: connectionTo(redis.port),
      keyBase: newKeyBase(),
      policy,
      frozenClock: () => nowMs,
    })
    await flowing(running)
    return {
      store: running.connect(),
      advance(ms) {
        nowMs += ms
      },
      isShared: true,
    }
  })
})

t.test(
  'a change is called out to every port of every replica but the one that asked',
  async (t) => {
    const [, a, b] = await pair(t)
    const stores = [a.connect(), a.connect(), b.connect(), b.connect()] as const
    const heard: SessionKey[][] = stores.map(() => [])
    const offered: SessionKey[][] = stores.map(() => [])
    for (const [index, store] of stores.entries()) {
      store.onInvalidate((key) => heard[index]?.push(key))
      store.onStreamOffered((key) => offered[index]?.push(key))
    }
    const { serverId, sessionId, ...rest } = await opened(stores[0])
    const key = { serverId, sessionId }
    const next = { ...rest, ...key, upstreamSessionId: 'next' }
    t.equal(await stores[0].replaceUpstreamSession(next, 'upstream-1'), true)
    await eventually('three heard', () => heard.flat().length === 3)
    t.strictSame(heard, [[], [key], [key], [key]])

    const claim = await stores[2].claimStream(key, 'holder', null)
    if (!claim.ok) throw new Error(claim.reason)
    await eventually('three heard', () => heard.flat().length === 6)
    await stores[2].releaseStream(key, claim.epoch, 'hand_over')
    await eventually('the other replica heard', () => offered.flat().length === 2)
    t.strictSame(offered, [[key], [key], [], []], 'a stream is offered to other replicas only')

    const announced: unknown[][] = stores.map(() => [])
    for (const [index, each] of stores.entries()) {
      each.onAnnounced((about, message) => announced[index]?.push([about, message]))
    }
    const message = { jsonrpc: '2.0', method: 'notifications/résumé/list_changed' }
    await stores[1].announce(key, message)
    await eventually('three heard', () => announced.flat().length === 3)
    t.strictSame(announced, [[[key, message]], [], [[key, message]], [[key, message]]])
  },
)

t.test('replicas know of each other, and of the end of one', async (t) => {
  const [, a, b] = await pair(t)
  const store = a.connect()
  await eventually('both are known', () => store.replicas.length === 2)
  t.strictSame(store.replicas, [a.id, b.id].toSorted())
  t.equal(a.report().replicas, 2)
  await b.stop()
  await eventually('one is left', () => store.replicas.length === 1)
})

t.test('refresh_on_startup empties the state only for the first replica', async (t) => {
  const redis = await startRedis(t)
  const subject = { connection: connectionTo(redis.port), keyBase: newKeyBase() }
  const first = await startState(t, subject)
  await opened(first.connect())
  await first.stop()
  const second = await startState(t, { ...subject, refreshOnStartup: true })
  t.match(await second.connect().inventory(), { sessions: 0 })
  const session = await opened(second.connect())
  const third = await startState(t, { ...subject, refreshOnStartup: true })
  t.ok(await third.connect().readSession(session), 'what is in use is left')
  t.match(third.warnings, [/refresh_on_startup was not obeyed/])
})

t.test('while Redis is away requests fail soon, and succeed when it is back', async (t) => {
  for (const how of ['killed', 'paused'] as const) {
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await t.test(how, async (t) => {
      const redis = await startRedis(t)
      const running = await startState(t, {
        connection: connectionTo(redis.port, { username: 'default', password: null }),
        keyBase: newKeyBase(),
      })
      await flowing(running)
      const store = running.connect()
      let distrusts = 0
      store.onDisconnect(() => distrusts++)
      await serves(store)
      const before = distrusts
      if (how === 'killed') await redis.kill()
      else redis.pause()
      const outcome = await within('an answer', store.inventory().catch(String), 3_000)
      t.match(outcome, /StoreUnavailableError/)
      await eventually('it is judged unavailable', () => !running.report().isAvailable)
      await eventually('copies are not trusted', () => distrusts > before && !store.callsBack)
      const startedAtMs = performance.now()
      await t.rejects(store.inventory(), { name: 'StoreUnavailableError' })
      t.ok(performance.now() - startedAtMs < 500, 'nobody waits for what is known to be away')
      const known = distrusts
      if (how === 'killed') await redis.restart()
      else redis.resume()
      await serves(store)
      await eventually('copies are trusted again', () => store.callsBack)
      t.ok(distrusts > known, 'after everything was forgotten once more')
      t.ok(running.report().isAvailable)
      t.match(running.failures[0], /can not be reached/)
    })
  }
})

t.test('one failed command, or a short absence, is not an outage', async (t) => {
  const redis = await startRedis(t)
  const proxy = await startTcpProxy(t, redis.port)
  const running = await startState(t, {
    connection: connectionTo(proxy.port),
    keyBase: newKeyBase(),
    unavailableAfterMs: 3_000,
    unavailablePolicy: 'fallback_memory',
  })
  const store = running.connect()
  await serves(store)
  for (let round = 0; round < 3; round++) {
    proxy.cut()
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await eventually('a request fails', () =>
      store.inventory().then(
        () => false,
        () => true,
      ),
    )
    proxy.heal()
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await serves(store)
  }
  t.strictSame(running.failures, [])
  t.equal(running.report().mode, 'shared')
})

t.test('a replica that starts without Redis serves when it is there', async (t) => {
  const port = await freePort()
  const running = await startState(t, { connection: connectionTo(port), keyBase: newKeyBase() })
  t.equal(running.report().isAvailable, false)
  const store = running.connect()
  await t.rejects(store.inventory(), { name: 'StoreUnavailableError' })
  t.match(running.failures, [/can not be reached: .*ECONNREFUSED/])
  await startRedis(t, { port })
  await serves(store)
  await flowing(running)
  t.ok(store.callsBack)
})

t.test('what went wrong is told without what is secret', async (t) => {
  const password = 'pa55-of-nobody'
  const redis = await startRedis(t, { args: ['--requirepass', 'another'] })
  const connection = connectionTo(redis.port, { username: 'default', password })
  const running = await startState(t, { connection, keyBase: newKeyBase() })
  const error = t.rejects(running.connect().inventory())
  const { message } = (await error) as Error // what t.rejects resolves with
  const told = [...running.failures, ...running.warnings, message].join('\n')
  t.match(told, /WRONGPASS/)
  t.notMatch(told, password)
})

t.test('a limit holds over replicas', async (t) => {
  const [, a, b] = await pair(t, { policy: policyWith({ maxActiveSessions: 3 }) })
  const stores = [a.connect(), b.connect()] as const
  const outcomes = await Promise.all(
    Array.from({ length: 8 }, (_, index) =>
      (index % 2 === 0 ? stores[0] : stores[1]).openSession(newSession()),
    ),
  )
  t.equal(outcomes.filter((outcome) => outcome === 'opened').length, 3)
})
