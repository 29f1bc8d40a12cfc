// Before requests alone open a breaker, the upstream is asked itself: one client's failures are no reason to refuse others, and one that fails for all is found out.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import {
  codeOf,
  fails,
  healthOf,
  HOUR,
  startBreakerRig,
  untilState,
} from '../support/breaker-rig.ts'
import type { ServerReport } from '../support/breaker-rig.ts'
import { eventually } from '../support/eventually.ts'
import { startReplica } from '../support/replica.ts'
import { startScriptedSse } from '../support/upstreams/scripted-sse.ts'
import { startScriptedUpstream } from '../support/upstreams/scripted-upstream.ts'
import type { Script } from '../support/upstreams/scripted-upstream.ts'
import { stdioSection } from '../support/upstreams/stdio/stdio-section.ts'
import { initialize, WireSession } from '../support/wire.ts'

// Time-outs are whole seconds.
t.setTimeout(480_000)

const ONE_SECOND = { tool_defaults: { tool_call_timeout_seconds: 1 } }
const SELDOM = {
  upstream_ping: {
    interval_seconds: HOUR,
    timeout_seconds: 1,
    failure_threshold: 3,
    open_cooldown_seconds: HOUR,
  },
}

function section(id: string, more: object): object {
  return { id, mount_path: `/mcp/${id}`, ...ONE_SECOND, ...more }
}

function sse(url: string): object {
  return { upstream: { transport: 'sse', url, initialize_timeout_seconds: 1 } }
}

t.test('one client does not open it by what always fails', async (test) => {
  const { upstream, replica, url } = await startBreakerRig(test, {}, ONE_SECOND)
  const hostile = await WireSession.open(url)
  upstream.scripts.set('tools/call broken', fails)
  upstream.scripts.set('tools/call cut', (_request, response) => void response.destroy())
  upstream.scripts.set('tools/call slow', () => undefined)
  upstream.scripts.set('notifications/cancelled', () => undefined)
  const ways = { broken: 500, cut: 502, slow: 504 }
  for (const [tool, status] of Object.entries(ways)) {
    const { length } = upstream.pings
    for (let n = 0; n < 4; n++) test.equal((await hostile.call(tool)).status, status, tool)
    await eventually('the upstream is asked itself', () => upstream.pings.length > length)
    await eventually('and believed', async () => {
      const { state, consecutive_failures: failures } = (await healthOf(replica)).server.breaker
      return state === 'closed' && failures < 3
    })
  }
  const all = await Promise.all(Array.from({ length: 40 }, () => hostile.call('broken')))
  test.ok(all.every(({ status }) => status === 500))
  const other = await WireSession.open(url)
  test.equal((await other.call('x')).status, 200, 'another client is served')
  test.match((await healthOf(replica)).server, { status: 'ok', breaker: { state: 'closed' } })
})

t.test('an upstream that fails for everybody is refused within a bound', async (test) => {
  const ways: Readonly<Record<string, Script>> = {
    fails,
    cuts: (_request, response) => void response.destroy(),
    hangs: () => undefined,
  }
  const upstreams = await Promise.all(Object.keys(ways).map(() => startScriptedUpstream()))
  const replica = await startReplica({
    config: {
      core: { workers: 2, ...SELDOM },
      servers: Object.keys(ways).map((id, n) =>
        section(id, { upstream: { url: upstreams[n]?.url } }),
      ),
    },
  })
  test.teardown(async () => {
    await replica.stop()
    await Promise.all(upstreams.map((upstream) => upstream.stop()))
  })
  await eventually('all are pinged at start', () =>
    upstreams.every(({ pings }) => pings.length > 0),
  )
  const sessions: WireSession[] = []
  for (const [n, [id, script]] of Object.entries(ways).entries()) {
    sessions.push(await WireSession.open(`${replica.url}/mcp/${id}`))
    for (const name of ['tools/call any', 'notifications/cancelled', 'initialize', 'probe'])
      upstreams[n]?.scripts.set(name, script)
  }
  await Promise.all(
    sessions.flatMap((session) => Array.from({ length: 3 }, () => session.call('any'))),
  )
  await untilState(replica, 'open')
  for (const session of sessions)
    test.equal(codeOf(await session.call('any')), 'ADAPTER_UPSTREAM_DOWN')
})

t.test('one that takes no connections is refused without being asked', async (test) => {
  const { upstream, replica, url } = await startBreakerRig(test)
  const session = await WireSession.open(url)
  await upstream.stop()
  for (let n = 0; n < 3; n++) test.equal((await session.call('any')).status, 502)
  test.match((await healthOf(replica)).server.breaker, { state: 'open', consecutive_failures: 3 })
})

t.test('servers that are bound to a connection are tried as clients use them', async (test) => {
  const workspace = await mkdtemp(join(tmpdir(), 'adapter-asks-'))
  const quiet = await startScriptedSse()
  const silent = await startScriptedSse()
  // Answers what every server does, and no calls.
  quiet.scripts.post = ({ body }, response) => {
    response.writeHead(202).end()
    const { id, method } = JSON.parse(body) as { id?: unknown; method?: string } // the adapter's
    if (method !== 'initialize' && method !== 'ping') return
    const result = { protocolVersion: '2025-06-18', capabilities: {}, serverInfo: {} }
    const answer = JSON.stringify({ jsonrpc: '2.0', id, result })
    for (const stream of quiet.streams) stream.response.write(`event: message\ndata: ${answer}\n\n`)
  }
  const hangs = stdioSection('hangs', {
    workspace,
    manner: 'hangs',
    more: { start_timeout_seconds: 1, stop_grace_seconds: 1 },
  })
  const replica = await startReplica({
    config: {
      core: { workers: 2, ...SELDOM },
      servers: [
        section('well', stdioSection('well', { workspace })),
        section('quiet', sse(quiet.url)),
        section('hangs', hangs),
        section('silent', sse(silent.url)),
      ],
    },
  })
  test.teardown(async () => {
    await replica.stop()
    await Promise.all([quiet.stop(), silent.stop()])
    await rm(workspace, { recursive: true, force: true, maxRetries: 5 })
  })
  const reportOf = async (id: string): Promise<ServerReport> => {
    const found = (await healthOf(replica)).servers.find((one) => one.server_id === id)
    if (found === undefined) throw new Error(`no server ${id}`)
    return found
  }
  await Promise.all([
    ...['well', 'quiet'].map(async (id) => {
      const session = await WireSession.open(`${replica.url}/mcp/${id}`)
      for (let n = 0; n < 3; n++) test.equal((await session.call('wait')).status, 504, id)
      await eventually('it is tried', async () => {
        const { ping, breaker } = await reportOf(id)
        const isWell = breaker.state === 'closed' && breaker.consecutive_failures === 0
        return ping['last_success_at'] !== null && isWell
      })
      test.equal((await initialize(`${replica.url}/mcp/${id}`)).status, 200)
    }),
    ...['hangs', 'silent'].map(async (id) => {
      for (let n = 0; n < 3; n++)
        test.equal((await initialize(`${replica.url}/mcp/${id}`)).status, 504, id)
      await eventually('it is open', async () => (await reportOf(id)).breaker.state === 'open')
      test.equal(codeOf(await initialize(`${replica.url}/mcp/${id}`)), 'ADAPTER_UPSTREAM_DOWN')
    }),
  ])
  await eventually(
    'what was tried is ended',
    () => quiet.streams.filter((one) => !one.isClosed).length === 2,
  )
})
