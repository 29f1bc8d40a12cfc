/** Replicas whose way to Redis breaks, and a Redis that fails over: what clients see meanwhile, and that service returns by itself. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'
import type { Test } from 'tap'

import { startCluster } from '../support/cluster.ts'
import type { Cluster } from '../support/cluster.ts'
import { eventually } from '../support/eventually.ts'
import { INITIALIZE, MCP_HEADERS } from '../support/file-rig.ts'
import { ask, startRedis, startSentinel } from '../support/redis.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'
import type { TcpProxy } from '../support/tcp-proxy.ts'
import { startFileServer } from '../support/upstreams/file-server.ts'

t.setTimeout(600_000)

const SOON = { unavailable_after_seconds: 1, command_timeout_seconds: 1 }

interface Answer {
  readonly status: number
  readonly text: string
  readonly session: string
}

async function send(url: string, body: string, session?: string, method = 'POST'): Promise<Answer> {
  const headers =
    session === undefined ? MCP_HEADERS : { ...MCP_HEADERS, 'mcp-session-id': session }
  const response = await fetch(`${url}/mcp/files`, {
    method,
    headers,
    ...(method === 'POST' ? { body } : {}),
  })
  const text = await response.text()
  return { status: response.status, text, session: response.headers.get('mcp-session-id') ?? '' }
}

async function openSession(url: string): Promise<string> {
  const { status, session, text } = await send(url, INITIALIZE)
  if (status !== 200) throw new Error(`no session: ${status} ${text}`)
  await send(url, '{"jsonrpc":"2.0","method":"notifications/initialized"}', session)
  return session
}

function call(url: string, session: string): Promise<Answer> {
  const params = { name: 'echo', arguments: { text: 'here' } }
  return send(url, JSON.stringify({ jsonrpc: '2.0', id: 7, method: 'tools/call', params }), session)
}

async function isReady(url: string, wanted: boolean): Promise<void> {
  await eventually(
    `ready is ${wanted}`,
    async () => (await fetch(`${url}/readyz`)).ok === wanted,
    20_000,
  )
}

async function upstreamServer(t: Test): Promise<object> {
  const workspace = await mkdtemp(join(tmpdir(), 'adapter-partition-'))
  const upstream = await startFileServer({ workspace, jsonResponse: true })
  t.teardown(async () => {
    await upstream.stop()
    await rm(workspace, { recursive: true, force: true })
  })
  return { id: 'files', mount_path: '/mcp/files', upstream: { url: upstream.url } }
}

/** Two replicas; the first one's way to Redis can be broken. */
async function splittable(t: Test): Promise<readonly [Cluster, TcpProxy, string, string]> {
  const redis = await startRedis(t)
  const proxy = await startTcpProxy(t, redis.port)
  const server = await upstreamServer(t)
  // oxlint-disable-next-line no-template-curly-in-string -- a variable of the configuration file
  const state = { redis: { host: '127.0.0.1', port: '${REDIS_PORT}', ...SOON } }
  const cluster = await startCluster(t, {
    replicas: 2,
    redisPort: redis.port,
    servers: () => [server],
    sections: { state_persistence: state },
    env: (index) => ({ REDIS_PORT: String(index === 0 ? proxy.port : redis.port) }),
  })
  const [one, two] = cluster.replicas
  return [cluster, proxy, one?.url ?? '', two?.url ?? '']
}

for (const how of ['stall', 'cut'] as const) {
  t.test(
    `a replica that is ${how} off serves nothing stale, and comes back by itself`,
    async (t) => {
      const [, proxy, one, two] = await splittable(t)
      const [going, ended] = [await openSession(one), await openSession(one)]
      for (const url of [one, two]) {
        for (const session of [going, ended]) {
          // oxlint-disable-next-line no-await-in-loop -- one after the other
          t.equal((await call(url, session)).status, 200)
        }
      }
      proxy[how]()
      t.equal((await send(two, '', ended, 'DELETE')).status, 200)
      const seen: number[] = []
      await eventually('the replica is judged', async () => {
        seen.push((await call(one, ended)).status)
        return !(await fetch(`${one}/readyz`)).ok
      })
      t.notOk(seen.includes(200), `the session that ended is answered ${[...new Set(seen)].join()}`)
      await eventually(
        'without the store a session can not be checked',
        async () => (await call(one, going)).status === 503,
      )
      t.equal((await fetch(`${one}/livez`)).status, 200)
      t.equal((await call(two, going)).status, 200, 'the other replica goes on')
      const meanwhile = await openSession(two)

      proxy.heal()
      await isReady(one, true)
      t.equal((await call(one, ended)).status, 404)
      for (const session of [going, meanwhile]) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        t.equal((await call(one, session)).status, 200)
      }
    },
  )
}

t.test('a fail-over is waited out, and no session is lost by it', async (t) => {
  const group = await startSentinel(t, { sentinels: 1, downAfterMs: 500 })
  const server = await upstreamServer(t)
  const nodes = group.sentinels.map(({ port }) => `127.0.0.1:${port}`)
  const redis = { host: null, sentinel: { master_name: group.name, nodes }, ...SOON }
  const cluster = await startCluster(t, {
    replicas: 1,
    redisPort: 0,
    servers: () => [server],
    sections: { state_persistence: { redis } },
  })
  const session = await openSession(cluster.url)
  const master = await group.master()
  await eventually('the follower has it', async () => {
    const [count] = await ask(master.port, 'wait', '1', '1000')
    return count === '1'
  })
  const killedAtMs = Date.now()
  await master.kill()
  const seen = new Set<number>()
  await eventually(
    'new sessions are opened again',
    async () => {
      const answers = await Promise.all([send(cluster.url, INITIALIZE), call(cluster.url, session)])
      for (const { status } of answers) seen.add(status)
      return Date.now() > killedAtMs + 500 && answers.every(({ status }) => status === 200)
    },
    60_000,
  )
  t.comment(`service was back ${Date.now() - killedAtMs} ms after the master was killed`)
  t.strictSame(
    [...seen].filter((status) => status !== 200 && status !== 503),
    [],
  )
  t.notOk((await group.master()) === master)
  await isReady(cluster.url, true)
  t.equal((await call(cluster.url, session)).status, 200)
})
