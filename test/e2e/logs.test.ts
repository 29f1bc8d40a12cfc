// The log: a line for each request at debug, what it says and what it never says, its way over OTLP, and `X-Request-Id`.
import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { startOtlpCollector } from '../support/otlp-collector.ts'
import type { OtlpCollector, ReceivedLog } from '../support/otlp-collector.ts'
import { startReplica } from '../support/replica.ts'
import type { Replica } from '../support/replica.ts'
import { noted } from '../support/secret-scan.ts'
import { startScriptedUpstream } from '../support/upstreams/scripted-upstream.ts'
import { initialize, POST_HEADERS, send, WireSession } from '../support/wire.ts'

t.setTimeout(300_000)

const COLLECTOR_KEY = noted('collector-key-9876543210')
const upstream = await startScriptedUpstream()
t.teardown(() => upstream.stop())

interface Line {
  readonly [field: string]: unknown
}

/** The lines of the log that are about requests. */
function requestLines(replica: Replica): Line[] {
  return replica
    .logs()
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line): Line => JSON.parse(line))
    .filter((line) => line['msg'] === 'request')
}

/** The line of one request, once it is there. */
async function lineOf(replica: Replica, requestId: unknown): Promise<Line> {
  const find = (): Line[] =>
    requestLines(replica).filter((line) => line['request_id'] === requestId)
  await eventually(`the line of request ${String(requestId)}`, () => find().length > 0)
  t.equal(find().length, 1, 'one line for one request')
  return find()[0] ?? {}
}

function startLogging(
  level: string,
  telemetry: Readonly<Record<string, unknown>> = {},
  core: Readonly<Record<string, unknown>> = {},
): Promise<Replica> {
  return startReplica({
    config: {
      core: { workers: 2, log_level: level, ...core },
      telemetry,
      uploads: { enabled: true },
      servers: [{ id: 'scripted', mount_path: '/mcp/scripted', upstream: { url: upstream.url } }],
    },
  })
}

function exporting(collector: OtlpCollector, more: Readonly<Record<string, unknown>> = {}) {
  return {
    enabled: true,
    emit_logs: true,
    transport: 'http',
    endpoint: more['transport'] === 'grpc' ? collector.grpcTarget : `${collector.url}/v1/metrics`,
    logs_endpoint: `${collector.url}/v1/logs`,
    headers: { 'X-Collector-Key': COLLECTOR_KEY },
    log_batch_schedule_delay_millis: 50,
    ...more,
  }
}

t.test('at debug each request has one line, which says what it was and how it went', async (t) => {
  const replica = await startLogging('debug')
  t.teardown(() => replica.stop())
  const url = `${replica.url}/mcp/scripted`
  const opened = await initialize(url)
  const id = String(opened.headers['mcp-session-id'])
  const session = new WireSession(url, id, '2025-06-18')
  const shown = `${id.slice(0, 6)}…`
  t.match(await lineOf(replica, opened.headers['x-request-id']), {
    level: 20,
    thread: 'primary',
    replica: /^[\w-]{16}$/,
    route: 'mcp',
    server: 'scripted',
    method: 'POST',
    rpc_method: 'initialize',
    session: shown,
    status: 200,
    bytes: opened.body.length,
    outcome: 'complete',
  })
  const called = await session.call('draw')
  const line = await lineOf(replica, called.headers['x-request-id'])
  t.match(line, { rpc_method: 'tools/call', tool: 'draw', session: shown, status: 200 })
  t.type(line['duration_ms'], 'number')
  t.type(line['worker'], 'number')
  t.equal(typeof line['request_bytes'], 'number')
  for (const [answer, expected] of [
    [await send(`${replica.url}/livez`, { method: 'GET' }), { route: 'health', status: 200 }],
    [await send(`${replica.url}/no/such`, { method: 'GET' }), { route: 'none', status: 404 }],
    [
      await send(url, { headers: POST_HEADERS, body: '{' }),
      { route: 'mcp', status: 400, outcome: 'complete' },
    ],
    [
      await send(url, { method: 'PATCH', body: '' }),
      { route: 'mcp', status: 405, method: 'PATCH', server: 'scripted' },
    ],
    [
      await send(`${replica.url}/upload/scripted?mcp_upload_session=${id}`, { body: 'x' }),
      { route: 'upload', session: shown },
    ],
    [
      await send(`${replica.url}/artifacts/scripted/${id}/x/y`, { method: 'GET' }),
      { route: 'artifact', session: shown },
    ],
  ] as const)
    t.match(await lineOf(replica, answer.headers['x-request-id']), expected)
  t.notMatch(replica.logs(), id, 'no session id is whole')
})

t.test('a client that leaves, and a message that is too large, have their line too', async (t) => {
  const replica = await startLogging('debug', {}, { max_message_bytes: 2_000 })
  t.teardown(() => replica.stop())
  const session = await WireSession.open(`${replica.url}/mcp/scripted`)
  let isUnderWay = false
  upstream.scripts.set('tools/call hang', () => {
    isUnderWay = true
  })
  const leaving = new AbortController()
  const left = fetch(session.url, {
    method: 'POST',
    headers: { ...session.headers, 'x-request-id': 'left-1' },
    body: JSON.stringify(session.message('tools/call', { name: 'hang' })),
    signal: leaving.signal,
  }).catch(() => undefined)
  await eventually('the call is under way', () => isUnderWay)
  leaving.abort()
  await left
  t.match(await lineOf(replica, 'left-1'), { outcome: 'client_gone', tool: 'hang' })
  const large = await session.call('x'.repeat(3_000))
  t.equal(large.status, 413)
  t.match(await lineOf(replica, large.headers['x-request-id']), { status: 413 })
  const named = await session.call('y'.repeat(1_000))
  const { tool } = await lineOf(replica, named.headers['x-request-id'])
  t.equal(String(tool).length, 64, 'a name is bounded')
  const secret = noted('0123456789Abcdefghij')
  const secretive = await session.call(`${'z'.repeat(40)} Bearer ${secret}`)
  const cut = await lineOf(replica, secretive.headers['x-request-id'])
  t.notMatch(cut['tool'], secret.slice(0, 8), 'and cut after redaction')
})

t.test('above debug there is no line for a request', async (t) => {
  const replica = await startLogging('info')
  t.teardown(() => replica.stop())
  const session = await WireSession.open(`${replica.url}/mcp/scripted`)
  await session.call('quiet')
  await replica.stop()
  t.same(requestLines(replica), [])
  t.match(replica.logs(), /"msg":"listening"/)
})

t.test('a request keeps the name that it came with, if that can be one', async (t) => {
  const replica = await startLogging(
    'warning',
    {},
    { cors: { allowed_origins: ['https://a.example'], enabled: true } },
  )
  t.teardown(() => replica.stop())
  const url = `${replica.url}/livez`
  const ask = async (name: string): Promise<unknown> =>
    (await send(url, { method: 'GET', headers: { 'x-request-id': name } })).headers['x-request-id']
  for (const name of ['a', '7f9c2ba4-e88f-11ed-a05b-0242ac120003', 'A.b_c-9', 'x'.repeat(64)])
    t.equal(await ask(name), name)
  for (const name of ['', ' ', 'a b', 'x'.repeat(65), '<script>', '-a', 'a"b', 'ä'])
    t.match(await ask(name), /^[0-9a-f]{12}-[0-9a-z]+$/, JSON.stringify(name))
  const names = new Set(await Promise.all(Array.from({ length: 50 }, () => ask(''))))
  t.equal(names.size, 50, 'no two are the same')
  const seen = await send(url, { method: 'GET', headers: { origin: 'https://a.example' } })
  t.match(seen.headers['access-control-expose-headers'], /X-Request-Id/)
})

t.test('lines go over OTLP as they are written, from every thread', async (t) => {
  for (const transport of ['http', 'grpc'] as const) {
    const collector = await startOtlpCollector()
    const replica = await startLogging(
      'debug',
      exporting(collector, {
        transport,
        logs_endpoint: transport === 'http' ? `${collector.url}/v1/logs` : collector.grpcTarget,
      }),
    )
    t.teardown(async () => {
      await replica.stop()
      await collector.stop()
    })
    const secret = noted('Sup3rSecretT0ken-123456')
    const session = await WireSession.open(`${replica.url}/mcp/scripted`)
    const answer = await session.call(`Bearer ${secret}`)
    await send(`${replica.url}/artifacts/scripted/${session.id}/x/y`, { method: 'GET' })
    const find = (has: (log: ReceivedLog) => boolean): ReceivedLog | undefined =>
      collector.logs.find(has)
    const isRequest = ({ attributes }: ReceivedLog): boolean =>
      attributes['request_id'] === answer.headers['x-request-id']
    await eventually('the line arrives', () => find(isRequest) !== undefined)
    t.match(find(isRequest), {
      body: 'request',
      severity: 5,
      severityText: 'DEBUG',
      attributes: { thread: 'primary', rpc_method: 'tools/call', status: 200 },
      resource: { 'service.name': 'remote-mcp-adapter', 'service.instance.id': /^[\w-]{16}$/ },
    })
    await eventually(
      'a worker says something',
      () =>
        find(({ attributes }) => String(attributes['thread']).startsWith('worker-')) !== undefined,
    )
    t.ok(
      find(({ body }) => body === 'listening'),
      'from the start on',
    )
    t.equal(collector.headers[0]?.['x-collector-key'], COLLECTOR_KEY)
    t.equal(await replica.stop(), 0)
    t.ok(
      find(({ body }) => body === 'stopping'),
      'up to the end',
    )
    t.notMatch(
      JSON.stringify(collector.logs.map(({ attributes, body }) => [attributes, body])),
      new RegExp(`${secret}|${session.id}`),
    )
  }
})

t.test('the last lines are left where the configuration says so', async (t) => {
  const collector = await startOtlpCollector()
  t.teardown(() => collector.stop())
  const delay = { log_batch_schedule_delay_millis: 600_000 }
  const quiet = await startLogging(
    'info',
    exporting(collector, { ...delay, flush_on_terminate: false, flush_on_shutdown: false }),
  )
  t.equal(await quiet.stop(), 0)
  t.equal(collector.logs.length, 0)
  // At the signal, though a request that is in hand holds up the end.
  const told = await startLogging(
    'info',
    exporting(collector, { ...delay, flush_on_shutdown: false }),
    { shutdown_timeout_seconds: 30 },
  )
  const session = await WireSession.open(`${told.url}/mcp/scripted`)
  const held: { end(): unknown }[] = []
  upstream.scripts.set('tools/call held', (request) => {
    held.push(request.response)
  })
  const call = session.call('held').catch(() => undefined)
  await eventually('a call is in hand', () => held.length === 1)
  const stopped = told.stop()
  await eventually('the first lines are there', () =>
    collector.logs.some(({ body }) => body === 'listening'),
  )
  for (const response of held) response.end()
  await call
  t.equal(await stopped, 0)
})

t.test('nothing is exported while telemetry.enabled is false', async (t) => {
  const collector = await startOtlpCollector()
  t.teardown(() => collector.stop())
  const replica = await startLogging('debug', exporting(collector, { enabled: false }))
  t.equal(await replica.stop(), 0)
  t.equal(collector.headers.length, 0)
})

for (const transport of ['http', 'grpc'] as const) {
  t.test(`a collector that is not there, or hangs, is not felt (${transport})`, async (t) => {
    const collector = await startOtlpCollector()
    collector.mood = 'hangs'
    const replica = await startLogging(
      'debug',
      exporting(collector, {
        transport,
        logs_endpoint: transport === 'http' ? `${collector.url}/v1/logs` : collector.grpcTarget,
        log_batch_max_queue_size: 4,
        log_batch_max_export_batch_size: 2,
        log_batch_export_timeout_millis: 200,
        shutdown_drain_timeout_seconds: 1,
      }),
    )
    const session = await WireSession.open(`${replica.url}/mcp/scripted`)
    for (let i = 0; i < 60; i++) {
      if (i === 30) await collector.stop()
      const answer = await within('a call is answered', session.call('free'), 5_000)
      t.equal(answer.status, 200)
    }
    await eventually('it is said', () => replica.logs().includes('can not be exported'))
    t.equal(await within('the adapter stops', replica.stop(), 15_000), 0)
  })
}

t.test('an export goes on when its collector comes back, and says what was lost', async (t) => {
  const collector = await startOtlpCollector()
  t.teardown(() => collector.stop())
  collector.mood = 'fails'
  const replica = await startLogging(
    'debug',
    exporting(collector, { log_batch_export_timeout_millis: 200 }),
  )
  t.teardown(() => replica.stop())
  await eventually('it is said', () => replica.logs().includes('can not be exported'))
  collector.mood = 'well'
  await eventually('it goes on', async () => {
    await send(`${replica.url}/livez`, { method: 'GET' })
    return replica.logs().includes('is exported again')
  })
  t.match(replica.logs(), /"signal":"logs","dropped":[1-9]\d*,"msg":"telemetry is exported again"/)
  await eventually('the line about it arrives', () =>
    collector.logs.some(({ body }) => body === 'telemetry is exported again'),
  )
})
