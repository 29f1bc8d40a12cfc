// Traces: one span for each call, below that of the client and above that of the upstream, whatever happens on the way.
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import t from 'tap'

import { eventually } from '../support/eventually.ts'
import { startOtlpCollector } from '../support/otlp-collector.ts'
import type { ReceivedSpan } from '../support/otlp-collector.ts'
import { noted } from '../support/secret-scan.ts'
import { COLLECTOR_KEY, startTracing } from '../support/traced-replica.ts'
import { startEverythingServer } from '../support/upstreams/everything-server.ts'
import {
  beginStream,
  event,
  idOf,
  sendJson,
  startScriptedUpstream,
} from '../support/upstreams/scripted-upstream.ts'
import { POST_HEADERS, send, WireSession } from '../support/wire.ts'

t.setTimeout(300_000)

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const PARENT = 'b7ad6b7169203331'
const SAMPLED = `00-${TRACE}-${PARENT}-01`
const UNSAMPLED = `00-${TRACE}-${PARENT}-00`

const collector = await startOtlpCollector()
const everything = await startEverythingServer()
const upstream = await startScriptedUpstream()
const stateless = await startScriptedUpstream({ stateless: true })
const replica = await startTracing(
  { scripted: upstream.url, stateless: stateless.url, everything: everything.url },
  collector,
  {},
)
t.teardown(async () => {
  await replica.stop()
  await everything.stop()
  await upstream.stop()
  await stateless.stop()
  await collector.stop()
})

/** The spans of a trace, once there are as many. */
async function spansOf(traceId: string, count: number): Promise<ReceivedSpan[]> {
  const found = (): ReceivedSpan[] => collector.spans.filter((span) => span.traceId === traceId)
  await eventually(`${count} spans of trace ${traceId} arrive`, () => found().length >= count)
  return found()
}

/** A trace id of its own for each test. */
let nextTrace = 1
function freshTrace(): string {
  return `${'c'.repeat(24)}${String(nextTrace++).padStart(8, '0')}`
}

t.test('a call is one span between that of its client and that of the upstream', async (t) => {
  const traceId = freshTrace()
  const session = await WireSession.open(`${replica.url}/mcp/scripted`)
  upstream.received.length = 0
  const answer = await session.post(
    session.message('tools/call', { name: 'render', arguments: {} }),
    {
      traceparent: `00-${traceId}-${PARENT}-01`,
      tracestate: 'vendor=1,other=2',
      baggage: 'user=7',
    },
  )
  t.equal(answer.status, 200)
  const [span, ...others] = await spansOf(traceId, 1)
  t.same(others, [])
  const [sent] = upstream.requests('tools/call render')
  const [, sentTrace, sentSpan, flags] = String(sent?.headers['traceparent']).split('-')
  t.same([sentTrace, sentSpan, flags], [traceId, span?.spanId, '01'], 'the upstream is its child')
  t.equal(sent?.headers['tracestate'], 'vendor=1,other=2')
  t.equal(sent?.headers['baggage'], 'user=7')
  t.match(span, {
    parentSpanId: PARENT,
    traceState: 'vendor=1,other=2',
    name: 'tools/call render',
    kind: 2,
    statusCode: 0,
    attributes: {
      'adapter.server_id': 'scripted',
      'adapter.request_id': String(answer.headers['x-request-id']),
      'gen_ai.operation.name': 'execute_tool',
      'gen_ai.tool.name': 'render',
      'http.response.status_code': 200,
      'jsonrpc.request.id': '1',
      'mcp.method.name': 'tools/call',
      'mcp.protocol.version': '2025-06-18',
      'mcp.session.id': `${session.id.slice(0, 6)}…`,
    },
    resource: { 'service.name': 'adapter-under-test', 'service.namespace': 'tests' },
  })
  t.ok(span !== undefined && span.endNs > span.startNs, 'it took time')
  t.equal(collector.headers.at(-1)?.['x-collector-key'], COLLECTOR_KEY)
})

t.test('calls of a real client are traced from their beginning here', async (t) => {
  const before = collector.spans.length
  const client = new Client({ name: 'real', version: '1' })
  await client.connect(new StreamableHTTPClientTransport(new URL(`${replica.url}/mcp/everything`)))
  t.teardown(() => client.close())
  await client.listTools()
  const names = (): string[] => collector.spans.slice(before).map(({ name }) => name)
  await eventually('the spans arrive', () => names().includes('tools/list'))
  t.same(names(), ['initialize', 'notifications/initialized', 'tools/list'])
  for (const span of collector.spans.slice(before)) {
    t.equal(span.parentSpanId, '')
    t.match(span.traceId, /^[0-9a-f]{32}$/)
    t.match(span.attributes['mcp.session.id'], /^.{6}…$/)
  }
})

t.test(
  'the context of a message counts before that of its headers, and goes on in both',
  async (t) => {
    const traceId = freshTrace()
    const session = await WireSession.open(`${replica.url}/mcp/scripted`)
    upstream.received.length = 0
    // Bytes that another writer of JSON would change.
    const params = `{"name":"plain","arguments":{"big":12345678901234567890,"e":1.0e2},  "_meta":{"traceparent":"00-${traceId}-${PARENT}-01","tracestate":"in=meta","x":"é"}}`
    const body = `{"jsonrpc":"2.0","id":"m","method":"tools/call","params":${params}}`
    await session.post(body, { traceparent: SAMPLED, tracestate: 'in=header' })
    const [span] = await spansOf(traceId, 1)
    t.match(span, { parentSpanId: PARENT, name: 'tools/call', traceState: 'in=meta' })
    t.equal(span?.attributes['gen_ai.tool.name'], 'plain')
    const [sent] = upstream.requests('tools/call plain')
    t.equal(sent?.headers['traceparent'], `00-${traceId}-${span?.spanId}-01`)
    t.equal(sent?.headers['tracestate'], 'in=meta')
    t.equal(
      sent?.body,
      body.replace(PARENT, span?.spanId ?? ''),
      'nothing else in the body changed',
    )
    t.equal(
      collector.spans.some((one) => one.traceId === TRACE),
      false,
    )
  },
)

t.test('a message that is rewritten for its tool has our span in it too', async (t) => {
  const traceId = freshTrace()
  const session = await WireSession.open(`${replica.url}/mcp/scripted`)
  const _meta = { traceparent: `00-${traceId}-${PARENT}-01`, progressToken: 'p' }
  await session.request('tools/call', { name: 'paint', arguments: { out: 'a.txt' }, _meta })
  const [span] = await spansOf(traceId, 1)
  const [sent] = upstream.requests('tools/call paint')
  t.match(sent?.json, {
    params: {
      arguments: { out: /^\/.*a\.txt$/ },
      _meta: { traceparent: `00-${traceId}-${span?.spanId}-01`, progressToken: 'p' },
    },
  })
  // One that had none gets none.
  await session.post(session.message('tools/call', { name: 'paint', arguments: {} }), {
    traceparent: `00-${traceId}-${PARENT}-01`,
  })
  await spansOf(traceId, 2)
  t.notMatch(upstream.requests('tools/call paint')[1]?.body, 'traceparent')
})

t.test('the calls of a script are those of the call that it came with', async (t) => {
  const traceId = freshTrace()
  const session = await WireSession.open(`${replica.url}/mcp/coded`)
  const code = 'await callTool("inner-a"); return await callTool("inner-b")'
  const _meta = { traceparent: `00-${traceId}-${PARENT}-01` }
  await session.request('tools/call', { name: 'coded_execute', arguments: { code }, _meta })
  const spans = await spansOf(traceId, 1)
  t.same(
    spans.map(({ attributes }) => attributes['gen_ai.tool.name']),
    ['coded_execute'],
  )
  const next = `00-${traceId}-${spans[0]?.spanId}-01`
  for (const name of ['inner-a', 'inner-b']) {
    const [sent] = upstream.requests(`tools/call ${name}`)
    t.equal(sent?.headers['traceparent'], next)
    t.match(sent?.json, { params: { _meta: { traceparent: next } } })
  }
})

t.test('a call without a session is traced the same way', async (t) => {
  const traceId = freshTrace()
  const revision = '2026-07-28'
  const _meta = {
    'io.modelcontextprotocol/protocolVersion': revision,
    'io.modelcontextprotocol/clientInfo': { name: 'wire', version: '1' },
    'io.modelcontextprotocol/clientCapabilities': {},
    traceparent: `00-${traceId}-${PARENT}-01`,
  }
  const params = { name: 'free', arguments: {}, _meta }
  const answer = await send(`${replica.url}/mcp/modern`, {
    headers: {
      ...POST_HEADERS,
      'mcp-protocol-version': revision,
      'mcp-method': 'tools/call',
      'mcp-name': 'free',
    },
    body: JSON.stringify({ jsonrpc: '2.0', id: 7, method: 'tools/call', params }),
  })
  t.equal(answer.status, 200, answer.body)
  const [span] = await spansOf(traceId, 1)
  t.match(span, { parentSpanId: PARENT, attributes: { 'mcp.protocol.version': revision } })
  t.equal(span?.attributes['mcp.session.id'], undefined)
  const [sent] = stateless.requests('tools/call free')
  const next = `00-${traceId}-${span?.spanId}-01`
  t.match(sent, {
    headers: { traceparent: next },
    json: { params: { _meta: { traceparent: next } } },
  })
})

t.test('a message whose context can not be told for sure is passed on as it came', async (t) => {
  const session = await WireSession.open(`${replica.url}/mcp/scripted`)
  for (const meta of ['twice', 'escaped']) {
    const traceId = freshTrace()
    const text = `00-${traceId}-${PARENT}-01`
    const written = meta === 'escaped' ? text.replace('c', String.raw`\u0063`) : text
    const other = meta === 'twice' ? text : ''
    const body = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"${meta}","arguments":{"a":"${other}"},"_meta":{"traceparent":"${written}"}}}`
    await session.post(body)
    const [span] = await spansOf(traceId, 1)
    const [sent] = upstream.requests(`tools/call ${meta}`)
    t.equal(sent?.body, body)
    t.equal(sent?.headers['traceparent'], `00-${traceId}-${span?.spanId}-01`)
  }
})

t.test('a malformed context is ignored, and a trace begins', async (t) => {
  const session = await WireSession.open(`${replica.url}/mcp/scripted`)
  const malformed = [
    'x',
    `00-${TRACE}-${PARENT}`,
    `00-${'0'.repeat(32)}-${PARENT}-01`,
    `00-${TRACE}-${'0'.repeat(16)}-01`,
    `ff-${TRACE}-${PARENT}-01`,
    `00-${TRACE.toUpperCase()}-${PARENT}-01`,
    `00-${TRACE}-${PARENT}-01-more`,
    `00-${TRACE}-${PARENT}-01 `.repeat(100),
  ]
  for (const [index, traceparent] of malformed.entries()) {
    const name = `bad-${index}`
    await session.post(session.message('tools/call', { name }), { traceparent, tracestate: 'a=1' })
    await session.post(
      session.message('tools/call', {
        name: `${name}-meta`,
        _meta: { traceparent: index === 0 ? 5 : traceparent, tracestate: { a: 1 } },
      }),
    )
    for (const one of [name, `${name}-meta`]) {
      const [sent] = upstream.requests(`tools/call ${one}`)
      t.match(sent?.headers['traceparent'], /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/, one)
      t.notMatch(sent?.headers['traceparent'], TRACE)
      t.equal(sent?.headers['tracestate'], undefined, 'it belongs to what was malformed')
    }
  }
  t.equal(
    collector.spans.some((one) => one.traceId === TRACE),
    false,
  )
})

t.test('a tracestate of a message that can not be a header is left out', async (t) => {
  const traceId = freshTrace()
  const session = await WireSession.open(`${replica.url}/mcp/scripted`)
  for (const tracestate of ['a=1\r\nx-injected: 1', 'a=\u0000', `a=${'1'.repeat(600)}`, '']) {
    const _meta = { traceparent: `00-${traceId}-${PARENT}-01`, tracestate }
    const answer = await session.request('tools/call', { name: 'state', _meta })
    t.equal(answer.status, 200)
  }
  for (const sent of upstream.requests('tools/call state')) {
    t.equal(sent.headers['tracestate'], undefined)
    t.equal(sent.headers['x-injected'], undefined)
  }
})

t.test('a version to come is read, and answered with ours', async (t) => {
  const traceId = freshTrace()
  const session = await WireSession.open(`${replica.url}/mcp/scripted`)
  await session.post(session.message('tools/call', { name: 'newer' }), {
    traceparent: `cc-${traceId}-${PARENT}-01-what-comes`,
  })
  const [span] = await spansOf(traceId, 1)
  t.equal(
    upstream.requests('tools/call newer')[0]?.headers['traceparent'],
    `00-${traceId}-${span?.spanId}-01`,
  )
})

t.test('what the client does not sample is not recorded, and passes untouched', async (t) => {
  const session = await WireSession.open(`${replica.url}/mcp/scripted`)
  await session.post(session.message('tools/call', { name: 'unsampled' }), {
    traceparent: UNSAMPLED,
    tracestate: 'a=1',
  })
  const [sent] = upstream.requests('tools/call unsampled')
  t.match(sent?.headers, { traceparent: UNSAMPLED, tracestate: 'a=1' })
  // What came later has arrived, and this has not.
  const traceId = freshTrace()
  await session.post(session.message('ping'), { traceparent: `00-${traceId}-${PARENT}-01` })
  await spansOf(traceId, 1)
  t.equal(
    collector.spans.some((span) => span.traceId === TRACE),
    false,
  )
})

t.test('a call that is repeated in a new upstream session is one span', async (t) => {
  const traceId = freshTrace()
  const session = await WireSession.open(`${replica.url}/mcp/scripted`)
  upstream.sessions.clear()
  upstream.received.length = 0
  const answer = await session.post(session.message('tools/call', { name: 'again' }), {
    traceparent: `00-${traceId}-${PARENT}-01`,
  })
  t.equal(answer.status, 200)
  const spans = await spansOf(traceId, 1)
  const parents = upstream.requests('tools/call again').map(({ headers }) => headers['traceparent'])
  t.equal(parents.length, 2)
  t.same(parents, [`00-${traceId}-${spans[0]?.spanId}-01`, `00-${traceId}-${spans[0]?.spanId}-01`])
  t.equal(spans.length, 1)
})

t.test('how a call failed is said by its span', async (t) => {
  const session = await WireSession.open(`${replica.url}/mcp/scripted`)
  upstream.scripts.set('tools/call tool-error', (request, response) =>
    sendJson(response, {
      jsonrpc: '2.0',
      id: idOf(request),
      result: { isError: true, content: [] },
    }),
  )
  upstream.scripts.set('tools/call streamed-error', (request, response) => {
    beginStream(response)
    response.write(event({ jsonrpc: '2.0', method: 'notifications/progress', params: {} }))
    response.end(
      event({ jsonrpc: '2.0', id: idOf(request), result: { isError: true, content: [] } }),
    )
  })
  upstream.scripts.set('tools/call rpc-error', (request, response) =>
    sendJson(response, {
      jsonrpc: '2.0',
      id: idOf(request),
      error: { code: -32050, message: 'x' },
    }),
  )
  upstream.scripts.set('tools/call http-error', (_request, response) => {
    response.writeHead(503, { 'content-type': 'text/plain' }).end('busy')
  })
  upstream.scripts.set('tools/call cut', (_request, response) => {
    beginStream(response)
    response.write(':\n\n', () => response.destroy())
  })
  upstream.scripts.set('tools/call never', (request) => {
    hanging.push(request.response)
  })
  const hanging: { destroy(): unknown }[] = []
  const cases: [name: string, type: string, rpcCode: string | undefined][] = [
    ['tool-error', 'tool_error', undefined],
    ['streamed-error', 'tool_error', undefined],
    ['rpc-error', '-32050', '-32050'],
    ['http-error', '503', undefined],
    ['cut', 'ADAPTER_UPSTREAM_INTERRUPTED', undefined],
  ]
  for (const [name, type, rpcCode] of cases) {
    const traceId = freshTrace()
    await session.post(session.message('tools/call', { name }), {
      traceparent: `00-${traceId}-${PARENT}-01`,
    })
    const [span] = await spansOf(traceId, 1)
    if (name === 'cut') {
      t.match(span?.attributes['error.type'], /^ADAPTER_UPSTREAM_/)
      t.match(span?.attributes['rpc.response.status_code'], /^-?\d+$/)
    } else {
      t.equal(span?.attributes['error.type'], type, name)
      t.equal(span?.attributes['rpc.response.status_code'], rpcCode, name)
    }
    t.equal(span?.statusCode, 2, name)
  }
  // A client that leaves.
  const traceId = freshTrace()
  const leaving = new AbortController()
  const left = fetch(session.url, {
    method: 'POST',
    headers: { ...session.headers, traceparent: `00-${traceId}-${PARENT}-01` },
    body: JSON.stringify(session.message('tools/call', { name: 'never' })),
    signal: leaving.signal,
  }).catch(() => undefined)
  await eventually('the call is under way', () => hanging.length > 0)
  leaving.abort()
  await left
  const [span] = await spansOf(traceId, 1)
  t.equal(span?.attributes['error.type'], 'client_disconnected')
  for (const response of hanging) response.destroy()
})

t.test(
  'names that clients make up do not become names of spans, and secrets no attributes',
  async (t) => {
    const traceId = freshTrace()
    const session = await WireSession.open(`${replica.url}/mcp/scripted`)
    const headers = { traceparent: `00-${traceId}-${PARENT}-01` }
    await session.post(session.message('made/up'), headers)
    await session.post(
      session.message('tools/call', {
        name: `Bearer ${noted('abc123DEF456ghi789')} ${'x'.repeat(500)}`,
      }),
      headers,
    )
    const spans = await spansOf(traceId, 2)
    t.same(spans.map(({ name }) => name).toSorted(), ['_OTHER', 'tools/call'])
    for (const { attributes } of spans)
      for (const value of Object.values(attributes))
        t.ok(String(value).length <= 160, String(value))
  },
)

t.test('a batch is one span', async (t) => {
  const traceId = freshTrace()
  const session = await WireSession.open(`${replica.url}/mcp/scripted`, { version: '2025-03-26' })
  upstream.scripts.set('batch', (request, response) => {
    const ids = Array.isArray(request.json)
      ? request.json.map((one: { id: unknown }) => one.id)
      : []
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(JSON.stringify(ids.map((id) => ({ jsonrpc: '2.0', id, result: {} }))))
  })
  await session.post([session.message('ping'), session.message('ping')], {
    traceparent: `00-${traceId}-${PARENT}-01`,
  })
  const spans = await spansOf(traceId, 1)
  t.same(
    spans.map(({ name }) => name),
    ['batch'],
  )
})
