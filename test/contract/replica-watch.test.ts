/** Replicas that notice each other: processes that are killed, paused or stopped, servers that go away, connections that break. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'

import t from 'tap'
import type { Test } from 'tap'

import type { RedisConnectionOptions } from '../../src/shared/state/redis/connection.ts'
import { eventually } from '../support/eventually.ts'
import { ask, startRedis, startRedisCluster } from '../support/redis.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'
import { connectionTo, KEY_BASE, watchReplica } from './watching-replica.ts'
import type { WatchingReplica } from './watching-replica.ts'

t.setTimeout(600_000)

const ENTRY = fileURLToPath(new URL('./watching-replica.js', import.meta.url))
/** A lease, the time until the next look, and what a busy machine adds. In milliseconds. */
const LEASE_BOUND_MS = 8_000

function watched(t: Test, id: string, connection: RedisConnectionOptions): WatchingReplica {
  const replica = watchReplica(id, connection)
  t.teardown(() => replica.drop())
  return replica
}

/** A replica as a process of its own. */
function spawned(t: Test, id: string, connection: RedisConnectionOptions): ChildProcess {
  const child = spawn(process.execPath, [ENTRY, JSON.stringify(connection), id], {
    stdio: 'inherit',
  })
  t.teardown(() => child.kill('SIGKILL'))
  return child
}

async function know(replica: WatchingReplica, ids: readonly string[]): Promise<void> {
  await eventually(
    `${ids.join()} are known (now ${replica.replicas.join()})`,
    () => replica.replicas.join() === ids.join(),
  )
}

/** Waits until a replica has looked at all channels that there are now. */
async function looked(replica: WatchingReplica): Promise<void> {
  const before = replica.looks
  // One may be under way, the next one is whole when another begins.
  await eventually('it has looked', () => replica.looks >= before + 3)
}

t.test('a process that is killed is noticed long before its lease is over', async (t) => {
  const redis = await startRedis(t)
  const connection = connectionTo(redis.port)
  const one = watched(t, 'one', connection)
  const two = watched(t, 'two', connection)
  const gaps: number[] = []
  for (let round = 0; round < 5; round++) {
    const id = `victim-${round}`
    const victim = spawned(t, id, connection)
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await Promise.all([one, two].map((replica) => know(replica, ['one', 'two', id].toSorted())))
    // oxlint-disable-next-line no-await-in-loop -- its channel must have been seen
    await eventually('it is subscribed', async () => (await subscribers(redis.port, id)) === 1)
    // oxlint-disable-next-line no-await-in-loop -- its channel must have been seen
    await Promise.all([one, two].map((replica) => looked(replica)))
    const killedAtMs = performance.now()
    victim.kill('SIGKILL')
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await eventually('both noticed', () => one.lost.includes(id) && two.lost.includes(id))
    gaps.push(performance.now() - killedAtMs)
  }
  t.comment(`noticed after ${gaps.map((gap) => gap.toFixed(0)).join(', ')} ms`)
  const [, , median = Infinity] = gaps.toSorted((a, b) => a - b)
  t.ok(median < 1_000, 'within the second that users may wait')
  const expected = Array.from({ length: 5 }, (_, round) => `victim-${round}`)
  await know(one, ['one', 'two'])
  t.strictSame(one.lost, expected, 'each once')
  t.strictSame(two.lost, expected, 'each once')
})

t.test('one that stops in order is not taken for dead', async (t) => {
  const redis = await startRedis(t)
  const connection = connectionTo(redis.port)
  const one = watched(t, 'one', connection)
  const child = spawned(t, 'two', connection)
  await know(one, ['one', 'two'])
  await eventually('it is subscribed', async () => (await subscribers(redis.port, 'two')) === 1)
  await looked(one)
  child.kill('SIGTERM')
  await know(one, ['one'])
  t.strictSame(one.lost, [])
})

t.test(
  'one that is paused is given up when its lease ends, and is there again after',
  async (t) => {
    const redis = await startRedis(t)
    const connection = connectionTo(redis.port)
    const one = watched(t, 'one', connection)
    const child = spawned(t, 'two', connection)
    await know(one, ['one', 'two'])
    const pausedAtMs = performance.now()
    child.kill('SIGSTOP')
    await eventually('it is given up', () => one.lost.length > 0, LEASE_BOUND_MS)
    t.ok(performance.now() - pausedAtMs > 2_000, 'not before: its connection is open')
    await know(one, ['one'])
    child.kill('SIGCONT')
    await know(one, ['one', 'two'])
    t.strictSame(one.lost, ['two'], 'told once')
  },
)

t.test('a restarted server is not taken for the end of everybody', async (t) => {
  const redis = await startRedis(t)
  const connection = connectionTo(redis.port)
  const replicas = ['one', 'two', 'three'].map((id) => watched(t, id, connection))
  for (const replica of replicas) {
    // oxlint-disable-next-line no-await-in-loop -- they all wait for the same
    await know(replica, ['one', 'three', 'two'])
  }
  await redis.restart()
  for (const replica of replicas) {
    // oxlint-disable-next-line no-await-in-loop -- they all wait for the same
    await eventually('messages flow again', () => replica.flows.join() === 'true,false,true')
    // oxlint-disable-next-line no-await-in-loop -- they all wait for the same
    await know(replica, ['one', 'three', 'two'])
    // oxlint-disable-next-line no-await-in-loop -- they all wait for the same
    await eventually('the loss is noticed', () => replica.dataLosses === 1)
  }
  // Longer than it takes until counts are believed again.
  await new Promise((resolve) => setTimeout(resolve, 3_500))
  t.strictSame(
    replicas.flatMap(({ lost }) => lost),
    [],
  )
  const child = spawned(t, 'zed', connection)
  const [one] = replicas
  if (one === undefined) throw new Error('unreachable')
  await know(one, ['one', 'three', 'two', 'zed'])
  await eventually('it is subscribed', async () => (await subscribers(redis.port, 'zed')) === 1)
  await looked(one)
  child.kill('SIGKILL')
  await eventually('a crash is noticed again', () => one.lost.includes('zed'), LEASE_BOUND_MS)
})

t.test('a server that is paused for long is not taken for the end of everybody', async (t) => {
  const redis = await startRedis(t)
  const replicas = ['one', 'two', 'three'].map((id) => watched(t, id, connectionTo(redis.port)))
  await Promise.all(replicas.map((replica) => know(replica, ['one', 'three', 'two'])))
  process.kill(redis.pid, 'SIGSTOP')
  await new Promise((resolve) => setTimeout(resolve, 5_000)) // longer than the lease
  process.kill(redis.pid, 'SIGCONT')
  await new Promise((resolve) => setTimeout(resolve, 4_500)) // and until lateness counts again
  for (const { lost } of replicas) t.strictSame(lost, [])
  await Promise.all(replicas.map((replica) => know(replica, ['one', 'three', 'two'])))
})

t.test(
  'a connection for messages that breaks, or goes silent, is replaced, and said so',
  async (t) => {
    const redis = await startRedis(t)
    const proxy = await startTcpProxy(t, redis.port)
    const one = watched(t, 'one', connectionTo(proxy.port))
    await eventually('messages flow', () => one.feed.flows)
    await ask(redis.port, 'publish', `${KEY_BASE}:changed`, 'before')
    await eventually('one arrives', () => one.messages.includes('before'))

    proxy.cut()
    await eventually('the break is noticed', () => !one.feed.flows)
    proxy.heal()
    await eventually('messages flow again', () => one.feed.flows)
    await ask(redis.port, 'publish', `${KEY_BASE}:changed`, 'after')
    await eventually('one arrives', () => one.messages.includes('after'))
    t.strictSame(one.flows, [true, false, true])

    proxy.stall()
    await eventually('silence is noticed', () => !one.feed.flows, 5_000)
    proxy.heal()
    await eventually('messages flow again', () => one.feed.flows)
    t.strictSame(one.lost, [])
  },
)

t.test('one whose connection for messages was replaced is not taken for dead', async (t) => {
  const redis = await startRedis(t)
  const one = watched(t, 'one', connectionTo(redis.port))
  const two = watched(t, 'two', connectionTo(redis.port))
  await Promise.all([one, two].map((replica) => know(replica, ['one', 'two'])))
  await eventually('both are subscribed', () => one.feed.flows && two.feed.flows)
  await looked(one)
  const generation = two.feed.generation
  for (let round = 0; round < 10; round++) {
    two.feed.reconnect()
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await eventually('it is subscribed again', () => two.feed.generation === generation + round + 1)
    // oxlint-disable-next-line no-await-in-loop -- at different moments between looks
    await new Promise((resolve) => setTimeout(resolve, 30 + round * 13))
  }
  t.strictSame(one.lost, [])
})

t.test(
  'in a Cluster messages arrive through any member, and the lease tells who is dead',
  async (t) => {
    const nodes = await startRedisCluster(t)
    const connection = connectionTo(0, {
      target: { kind: 'cluster', nodes: nodes.map(({ port }) => ({ host: '127.0.0.1', port })) },
    })
    const one = watched(t, 'one', connection)
    const child = spawned(t, 'two', connection)
    await know(one, ['one', 'two'])
    for (const { port } of nodes) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await ask(port, 'publish', `${KEY_BASE}:changed`, `from ${port}`)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await eventually('it arrives', () => one.messages.includes(`from ${port}`))
    }
    child.kill('SIGKILL')
    await eventually('its end is noticed', () => one.lost.includes('two'), LEASE_BOUND_MS)
    t.strictSame(one.lost, ['two'])
  },
)

async function subscribers(port: number, id: string): Promise<number> {
  const [, count] = await ask(port, 'pubsub', 'numsub', `${KEY_BASE}:replica:${id}`)
  return Number(count)
}

/** Waits until a replica knows where these are reached. */
function knows(replica: WatchingReplica, ids: string): Promise<void> {
  return eventually(
    `'${ids}' can be reached`,
    () => [...replica.hops.keys()].toSorted().join() === ids,
  )
}

t.test('replicas tell each other where they are reached, until they end', async (t) => {
  const redis = await startRedis(t)
  const connection = connectionTo(redis.port)
  const reached = (id: string, url: string): WatchingReplica => {
    const replica = watchReplica(id, connection, url)
    t.teardown(() => replica.drop())
    return replica
  }
  const one = reached('one', 'http://10.0.0.1:1')
  const two = reached('two', 'http://10.0.0.2:2')
  const silent = watched(t, 'silent', connection)
  await Promise.all([one, two, silent].map((replica) => knows(replica, 'one,two')))
  t.equal(one.hops.get('two'), 'http://10.0.0.2:2')
  t.equal(silent.hops.get('one'), 'http://10.0.0.1:1')
  await two.stop()
  await knows(one, 'one')
  one.drop()
  await knows(silent, '')
  const three = reached('three', 'http://10.0.0.3:3')
  await knows(three, 'three')
})
