// Sessions over the relay, with real clients: what travels in both directions, resuming, cancelling, a lost upstream session.
import {
  Client as ModernClient,
  StreamableHTTPClientTransport as ModernTransport,
} from '@modelcontextprotocol/client'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
  LoggingMessageNotificationSchema,
  ResourceListChangedNotificationSchema,
  ResourceUpdatedNotificationSchema,
  ToolListChangedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js'
import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { startReplica } from '../support/replica.ts'
import { startEverythingServer } from '../support/upstreams/everything-server.ts'
import {
  beginStream,
  event,
  idOf,
  sendResult,
  startScriptedUpstream,
} from '../support/upstreams/scripted-upstream.ts'
import type { ReceivedRequest } from '../support/upstreams/scripted-upstream.ts'
import { WireSession } from '../support/wire.ts'

const everything = await startEverythingServer()
const upstream = await startScriptedUpstream()
const replica = await startReplica({
  config: {
    core: { workers: 2 },
    servers: [
      { id: 'everything', mount_path: '/mcp/everything', upstream: { url: everything.url } },
      { id: 'scripted', mount_path: '/mcp/scripted', upstream: { url: upstream.url } },
    ],
  },
})
t.teardown(async () => {
  await replica.stop()
  await everything.stop()
  await upstream.stop()
})

const url = `${replica.url}/mcp/everything`
const scriptedUrl = `${replica.url}/mcp/scripted`

/** What a test does with a client, whichever SDK it is of. */
interface AnyClient {
  callTool(
    params: { name: string; arguments?: Record<string, unknown> },
    options?: { onprogress?: (progress: { progress: number }) => void; signal?: AbortSignal },
  ): Promise<string>
  readonly logged: unknown[]
  setLoggingLevel(level: 'debug'): Promise<unknown>
  close(): Promise<void>
}

const ROOTS = { roots: [{ uri: 'file:///a', name: 'a' }] }
const SAMPLE = {
  model: 'm',
  role: 'assistant' as const,
  content: { type: 'text' as const, text: 'sampled' },
}
const FORM = {
  action: 'accept' as const,
  content: { username: 'u', email: 'u@example.com', name: 'N' },
}
const CAPABILITIES = { sampling: {}, elicitation: {}, roots: {} }

async function connectV1(): Promise<AnyClient & { client: Client }> {
  const client = new Client({ name: 'v1', version: '1' }, { capabilities: CAPABILITIES })
  const logged: unknown[] = []
  client.setRequestHandler(CreateMessageRequestSchema, () => SAMPLE)
  client.setRequestHandler(ElicitRequestSchema, () => FORM)
  client.setRequestHandler(ListRootsRequestSchema, () => ROOTS)
  client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => {
    logged.push(params.data)
  })
  await client.connect(new StreamableHTTPClientTransport(new URL(url)))
  return {
    client,
    logged,
    callTool: async (params, options) =>
      JSON.stringify(await client.callTool(params, undefined, options)),
    setLoggingLevel: (level) => client.setLoggingLevel(level),
    close: () => client.close(),
  }
}

async function connectV2(): Promise<AnyClient> {
  const client = new ModernClient(
    { name: 'v2', version: '1' },
    { capabilities: CAPABILITIES, versionNegotiation: { mode: 'legacy' } },
  )
  const logged: unknown[] = []
  client.setRequestHandler('sampling/createMessage', () => SAMPLE)
  client.setRequestHandler('elicitation/create', () => FORM)
  client.setRequestHandler('roots/list', () => ROOTS)
  client.setNotificationHandler('notifications/message', ({ params }) => {
    logged.push(params.data)
  })
  await client.connect(new ModernTransport(new URL(url)))
  return {
    logged,
    callTool: async (params, options) => JSON.stringify(await client.callTool(params, options)),
    setLoggingLevel: (level) => client.setLoggingLevel(level),
    close: () => client.close(),
  }
}

for (const [sdk, connect] of [
  ['1.x', connectV1],
  ['2.x', connectV2],
] as const) {
  t.test(`sampling, elicitation, roots, logging and progress work with SDK ${sdk}`, async (t) => {
    const client = await connect()
    t.match(await client.callTool({ name: 'test_sampling', arguments: { prompt: 'p' } }), 'sampled')
    t.match(
      await client.callTool({ name: 'test_elicitation', arguments: { message: 'm' } }),
      'u@example.com',
    )
    t.match(await client.callTool({ name: 'test_input_required_result_list_roots' }), 'file:///a')
    await client.setLoggingLevel('debug')
    await client.callTool({ name: 'test_tool_with_logging' })
    t.equal(client.logged.length, 3)
    const progress: number[] = []
    await client.callTool(
      { name: 'test_tool_with_progress' },
      { onprogress: (step) => progress.push(step.progress) },
    )
    t.same(progress, [0, 50, 100])
    t.match(
      await client.callTool({ name: 'test_reconnection' }),
      'Answered after the stream was closed',
      'a stream that the upstream closed is resumed',
    )
    await client.close()
  })

  t.test(`a call that SDK ${sdk} gives up is cancelled at the upstream`, async (t) => {
    const client = await connect()
    const key = `given-up-${sdk}`
    const given = new AbortController()
    const call = client.callTool(
      { name: 'test_slow_tool', arguments: { key, durationMs: 60_000 } },
      { signal: given.signal, onprogress: () => given.abort(new Error('enough')) },
    )
    await t.rejects(call)
    await eventually('the upstream knows', () =>
      everything.slowCalls().some((one) => one.key === key && one.outcome === 'cancelled'),
    )
    await client.close()
  })
}

t.test(
  'change notifications arrive on the standalone stream, updates only where they were asked for',
  async (t) => {
    const [one, other] = [await connectV1(), await connectV1()]
    const seen: string[] = []
    for (const [name, { client }] of [
      ['one', one],
      ['other', other],
    ] as const) {
      client.setNotificationHandler(
        ToolListChangedNotificationSchema,
        () => void seen.push(`${name} tools`),
      )
      client.setNotificationHandler(
        ResourceListChangedNotificationSchema,
        () => void seen.push(`${name} resources`),
      )
      client.setNotificationHandler(
        ResourceUpdatedNotificationSchema,
        ({ params }) => void seen.push(`${name} ${params.uri}`),
      )
    }
    await one.client.subscribeResource({ uri: 'test://watched-resource' })
    // The streams are opened by the clients in the background: announce until both have it.
    await eventually('both streams deliver', () => {
      everything.announce({ kind: 'tools' })
      return seen.includes('one tools') && seen.includes('other tools')
    })
    everything.announce({ kind: 'resource', uri: 'test://watched-resource' })
    everything.announce({ kind: 'resources' })
    await eventually('all is told', () =>
      ['one test://watched-resource', 'one resources', 'other resources'].every((what) =>
        seen.includes(what),
      ),
    )
    t.notOk(seen.includes('other test://watched-resource'))
    await one.close()
    await other.close()
  },
)

t.test(
  'an interrupted call is taken up again with Last-Event-ID, and was not cancelled',
  async (t) => {
    const session = await WireSession.open(url)
    const message = session.message('tools/call', {
      name: 'test_slow_tool',
      arguments: { key: 'interrupted', durationMs: 300 },
      _meta: { progressToken: 'p' },
    })
    const stream = await session.stream(message)
    await stream.until('notifications/progress')
    const lastId =
      /^id: ?(.*)$/m.exec(stream.text().slice(stream.text().lastIndexOf('id:')))?.[1] ?? ''
    stream.close()
    const resumed = await session.get({ 'last-event-id': lastId })
    t.equal(resumed.status, 200)
    await resumed.until('Slept for 300 ms')
    t.same(everything.slowCalls().find(({ key }) => key === 'interrupted')?.outcome, 'completed')
    resumed.close()
    await session.delete()
  },
)

t.test(
  'calls that find the upstream session lost share one new one and are repeated',
  async (t) => {
    const client = await connectV1()
    const before = everything.sessionIds().length
    await everything.dropSessions()
    t.equal(everything.sessionIds().length, 0)
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, n) =>
        client.callTool({ name: 'test_echo', arguments: { message: `m${n}` } }),
      ),
    )
    t.ok(answers.every((answer, n) => answer.includes(`m${n}`)))
    t.ok(before >= 1)
    t.equal(everything.sessionIds().length, 1, 'one new upstream session')
    t.match(await client.callTool({ name: 'test_sampling', arguments: { prompt: 'p' } }), 'sampled')
    await client.close()
  },
)

function notFound({ response }: ReceivedRequest): void {
  response.writeHead(404).end()
}

t.test('a call whose 404 comes late does not open yet another upstream session', async (t) => {
  const session = await WireSession.open(scriptedUrl)
  const late: ReceivedRequest[] = []
  const [old] = [...upstream.sessions].slice(-1)
  upstream.scripts.set('tools/call late', (request) => {
    if (request.headers['mcp-session-id'] === old) late.push(request)
    else sendResult(request, { on: request.headers['mcp-session-id'] })
  })
  upstream.scripts.set('tools/call early', (request) => {
    if (request.headers['mcp-session-id'] === old) notFound(request)
    else sendResult(request, { on: request.headers['mcp-session-id'] })
  })
  const opened = upstream.requests('initialize').length
  const lateCall = session.call('late')
  await eventually('the call waits', () => late.length === 1)
  const early = (await session.call('early')).json()
  late.forEach(notFound)
  t.same((await lateCall).json().result, early.result, 'both on the same upstream session')
  t.equal(upstream.requests('initialize').length, opened + 1)
  const [again] = upstream.requests('initialize').slice(-1)
  t.match(again?.json, {
    params: { protocolVersion: '2025-06-18', clientInfo: { name: 'wire' } },
  })
  await session.delete()
})

t.test('an upstream may answer the new initialize as a stream that it keeps open', async (t) => {
  const session = await WireSession.open(scriptedUrl)
  upstream.sessions.clear()
  upstream.scripts.set('initialize', (request, response) => {
    upstream.sessions.add('up-streamed')
    beginStream(response, { 'mcp-session-id': 'up-streamed' })
    response.write('id: 0\ndata: \n\n')
    response.write(
      event({
        jsonrpc: '2.0',
        id: idOf(request),
        result: { protocolVersion: '2025-06-18', capabilities: {} },
      }),
    )
  })
  const answer = await within('the call', session.call('any'), 5_000)
  t.equal(answer.status, 200, answer.body)
  t.equal(upstream.requests('tools/call any').at(-1)?.headers['mcp-session-id'], 'up-streamed')
  upstream.scripts.delete('initialize')
  await session.delete()
})

t.test('a new upstream session whose handshake breaks off is ended and not used', async (t) => {
  const session = await WireSession.open(scriptedUrl)
  upstream.sessions.clear()
  upstream.scripts.set('notifications/initialized', (_request, response) => {
    response.destroy()
  })
  t.equal((await session.call('any')).status, 502)
  await eventually('it is ended', () => upstream.sessions.size === 0)
  upstream.scripts.delete('notifications/initialized')
  t.equal((await session.call('any')).status, 200, 'the next call makes a whole one')
  await session.delete()
})

t.test('an upstream that does not open the session again is a clear error', async (t) => {
  const refusals: readonly [status: number, body: string, expected: number][] = [
    [
      200,
      '{"jsonrpc":"2.0","id":"adapter-initialize","error":{"code":-32000,"message":"no"}}',
      404,
    ],
    [200, '{"jsonrpc":"2.0"', 404],
    [401, '', 404],
    [503, 'busy', 502],
  ]
  for (const [status, body, expected] of refusals) {
    const session = await WireSession.open(scriptedUrl)
    upstream.sessions.clear()
    upstream.scripts.set('initialize', (_request, response) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(body)
    })
    const message = session.message('tools/call', { name: 'any' })
    const answer = await session.post(message)
    t.equal(answer.status, expected, `${status} ${body}`)
    t.match(answer.json(), { id: message.id, error: { message: /initialize/ } })
    upstream.scripts.delete('initialize')
    t.equal((await session.call('any')).status, 200, 'the next attempt may succeed')
    await session.delete()
  }
})

t.test(
  'a standalone stream that finds the upstream session lost starts afresh, without the old event id',
  async (t) => {
    const session = await WireSession.open(scriptedUrl)
    upstream.scripts.set('GET', (request, response) => {
      beginStream(response)
      response.write(
        event({
          jsonrpc: '2.0',
          method: 'notifications/here',
          params: { got: request.headers['last-event-id'] ?? 'none' },
        }),
      )
    })
    const kept = await session.get({ 'last-event-id': 'e-1' })
    await kept.until('"e-1"')
    kept.close()
    upstream.sessions.clear()
    const fresh = await session.get({ 'last-event-id': 'e-1' })
    t.equal(fresh.status, 200)
    await fresh.until('"none"')
    fresh.close()
    upstream.scripts.set('GET', (request, response) => {
      if (request.headers['last-event-id'] === undefined) {
        beginStream(response)
        response.end(': afresh\n\n')
      } else response.writeHead(400).end('no such event')
    })
    const stale = await session.get({ 'last-event-id': 'of the session before' })
    t.equal(stale.status, 200)
    await stale.until('afresh')
    const other = await WireSession.open(scriptedUrl)
    const wrong = await other.get({ 'last-event-id': 'of nobody' })
    t.equal(wrong.status, 400, 'where nothing was lost, the upstream’s refusal is relayed')
    await other.delete()
    upstream.scripts.delete('GET')
    await session.delete()
  },
)

t.test('DELETE ends the session on both sides and its streams', async (t) => {
  const session = await WireSession.open(url)
  const stream = await session.get()
  t.equal(stream.status, 200)
  const before = everything.sessionIds().length
  t.equal((await session.delete()).status, 200)
  await eventually(
    'the upstream session is gone',
    () => everything.sessionIds().length === before - 1,
  )
  t.equal(await within('the stream ends', stream.ended), 'end')
  for (const answer of [await session.call('test_simple_text'), await session.delete()]) {
    t.equal(answer.status, 404)
    t.match(answer.json(), { error: { code: -32001 } })
  }
  t.equal((await session.get()).status, 404)
})
