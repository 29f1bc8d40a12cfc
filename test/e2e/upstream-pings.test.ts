// How upstreams are pinged, what a ping tells, and that it makes nothing there.
import t from 'tap'

import { codeOf, fails, healthOf, startBreakerRig, untilState } from '../support/breaker-rig.ts'
import { eventually, within } from '../support/eventually.ts'
import { startReplica } from '../support/replica.ts'
import { sendResult, startScriptedUpstream } from '../support/upstreams/scripted-upstream.ts'
import type { ReceivedRequest, Script } from '../support/upstreams/scripted-upstream.ts'
import { send, WireSession } from '../support/wire.ts'

// Time-outs and intervals are whole seconds.
t.setTimeout(240_000)

t.test(
  'an upstream that refuses connections is found out by pings, and is back when it is',
  async (test) => {
    const { upstream, replica, url } = await startBreakerRig(test, {
      interval_seconds: 1,
      open_cooldown_seconds: 1,
      half_open_probe_allowance: 2,
    })
    const session = await WireSession.open(url)
    await upstream.stop()
    await untilState(replica, 'open')
    const { server } = await healthOf(replica)
    test.type(server.ping['last_failure_at'], 'string')
    test.type(server.ping['last_latency_ms'], 'number')
    await eventually('requests are refused', async () => {
      const answer = await session.request('tools/list')
      return answer.status === 503 && codeOf(answer) === 'ADAPTER_UPSTREAM_DOWN'
    })
    const back = await startScriptedUpstream({ port: upstream.port })
    test.teardown(() => back.stop())
    await untilState(replica, 'closed')
    test.equal((await healthOf(replica)).status, 200)
    test.equal((await session.request('tools/list')).status, 200, 'the session goes on')
  },
)

t.test(
  'upstreams that say nothing, or 5xx, or what is no HTTP, or hang up, are found out by pings alone',
  async (test) => {
    const ways = new Map<string, Script>([
      ['silent', () => undefined],
      ['server-error', (_request, response) => void response.writeHead(503).end()],
      ['babbling', (_request, response) => void response.socket?.end('hello\r\n\r\n')],
      ['cutting', (_request, response) => void response.socket?.destroy()],
    ])
    const upstreams = await Promise.all([...ways].map(() => startScriptedUpstream()))
    const replica = await startReplica({
      config: {
        core: { workers: 1, upstream_ping: { interval_seconds: 1, timeout_seconds: 1 } },
        servers: [...ways.keys()].map((id, n) => ({
          id,
          mount_path: `/mcp/${id}`,
          upstream: { url: upstreams[n]?.url },
        })),
      },
    })
    test.teardown(async () => {
      await replica.stop()
      await Promise.all(upstreams.map((upstream) => upstream.stop()))
    })
    await eventually('all are pinged', () => upstreams.every(({ pings }) => pings.length > 0))
    test.equal((await healthOf(replica)).status, 200)
    for (const [n, script] of [...ways.values()].entries())
      upstreams[n]?.scripts.set('probe', script)
    await untilState(replica, 'open')
  },
)

t.test('an upstream that wants what only clients have is alive', async (test) => {
  const { upstream, replica } = await startBreakerRig(test, {
    interval_seconds: 1,
    failure_threshold: 1,
  })
  for (const status of [401, 403, 405]) {
    upstream.scripts.set('probe', (_request, response) => {
      response.writeHead(status, { 'www-authenticate': 'Bearer' }).end()
    })
    const { length } = upstream.pings
    await eventually(`a ping is answered ${status}`, () => upstream.pings.length > length)
  }
  test.match((await healthOf(replica)).server, { status: 'ok', breaker: { state: 'closed' } })
})

t.test('an upstream that is at work on a call need not answer pings', async (test) => {
  const { upstream, replica, url } = await startBreakerRig(test, {
    interval_seconds: 1,
    failure_threshold: 1,
  })
  const session = await WireSession.open(url)
  const held: ReceivedRequest[] = []
  upstream.scripts.set('tools/call work', (request) => {
    held.push(request)
  })
  const call = session.call('work')
  await eventually('the call is there', () => held.length === 1)
  upstream.scripts.set('probe', () => undefined)
  const { length } = upstream.pings
  await eventually('pings go unanswered', () => upstream.pings.length >= length + 3)
  test.equal((await healthOf(replica)).server.breaker.state, 'closed')
  for (const request of held) sendResult(request, {})
  test.equal((await call).status, 200)
  await untilState(replica, 'open')
  test.pass('without a call in hand it has to answer')
})

t.test('one worker pings, once at start, and not while requests are answered', async (test) => {
  const { upstream, url } = await startBreakerRig(test, { interval_seconds: 1 })
  test.equal(upstream.pings.length, 1)
  const [ping] = upstream.pings
  test.match(ping?.json, { method: 'server/discover' })
  const session = await WireSession.open(url)
  const calls = { isOver: false }
  const traffic = (async () => {
    while (!calls.isOver) await session.call('x')
  })()
  const begun = performance.now()
  // The first turn may come before the first answer.
  const before = upstream.pings.length
  await eventually('more than two intervals pass', () => performance.now() > begun + 3_500)
  test.ok(upstream.pings.length <= before + 1, `${upstream.pings.length} pings`)
  calls.isOver = true
  await traffic
  await eventually('pings go on', () => upstream.pings.length > before + 1)
  test.equal(
    new Set(upstream.pings.map(({ headers }) => headers['mcp-session-id'])).size,
    1,
    'all for the same session that there is not',
  )
  test.equal(upstream.sessions.size, 1, 'the session of the client is the only one')
})

t.test('without pings there is no breaker', async (test) => {
  const upstream = await startScriptedUpstream()
  const replica = await startReplica({
    config: {
      core: { workers: 1, max_start_wait_seconds: 0 },
      servers: [
        {
          id: 'one',
          mount_path: '/mcp/one',
          upstream: { url: upstream.url },
          upstream_ping: { enabled: false },
        },
      ],
    },
  })
  test.teardown(async () => {
    await replica.stop()
    await upstream.stop()
  })
  const session = await WireSession.open(`${replica.url}/mcp/one`)
  upstream.scripts.set('tools/call broken', fails)
  for (let n = 0; n < 8; n++) test.equal((await session.call('broken')).status, 500)
  test.equal(upstream.pings.length, 0)
  const report = await within('health', send(`${replica.url}/healthz`, { method: 'GET' }))
  test.match(JSON.parse(report.body), {
    servers: [{ status: 'ok', detail: 'upstream_ping_disabled' }],
  })
})
