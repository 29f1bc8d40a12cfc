// Revision 2026-07-28: requests without a session, their headers checked against their bodies, and passed on as they are.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
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
import { messagesIn, open, POST_HEADERS, send, WireSession } from '../support/wire.ts'
import type { WireAnswer } from '../support/wire.ts'

const everything = await startEverythingServer()
const upstream = await startScriptedUpstream({ stateless: true })
const adapters = [
  { type: 'upload_consumer', tools: ['test_simple_text'], file_path_argument: 'path' },
]
const replica = await startReplica({
  config: {
    core: { workers: 2 },
    servers: [
      { id: 'everything', mount_path: '/mcp/everything', upstream: { url: everything.url } },
      { id: 'scripted', mount_path: '/mcp/scripted', upstream: { url: upstream.url } },
      {
        id: 'wrapping',
        mount_path: '/mcp/wrapping',
        upstream: { url: everything.url },
        disabled_tools: ['test_error_.*'],
        adapters,
      },
    ],
  },
})
t.teardown(async () => {
  await replica.stop()
  await everything.stop()
  await upstream.stop()
})

const url = `${replica.url}/mcp/scripted`
const REVISION = '2026-07-28'
const META = {
  'io.modelcontextprotocol/protocolVersion': REVISION,
  'io.modelcontextprotocol/clientInfo': { name: 'wire', version: '1' },
  'io.modelcontextprotocol/clientCapabilities': { elicitation: {} },
}

type Headers = Readonly<Record<string, string>>

function headersFor(method: string, more: Headers = {}): Headers {
  return { ...POST_HEADERS, 'mcp-protocol-version': REVISION, 'mcp-method': method, ...more }
}

function bodyOf(
  method: string,
  params: Readonly<Record<string, unknown>> = {},
  meta: unknown = META,
): string {
  return JSON.stringify({
    jsonrpc: '2.0',
    id: 'r-1',
    method,
    params: { ...params, ...(meta === null ? {} : { _meta: meta }) },
  })
}

function post(
  method: string,
  params?: Readonly<Record<string, unknown>>,
  more?: Headers,
): Promise<WireAnswer> {
  return send(url, { headers: headersFor(method, more), body: bodyOf(method, params) })
}

function encoded(name: string): string {
  return `=?base64?${Buffer.from(name).toString('base64')}?=`
}

async function connect(path: string): Promise<Client> {
  const client = new Client(
    { name: 'modern', version: '1' },
    {
      capabilities: { elicitation: {}, sampling: {}, roots: {} },
      versionNegotiation: { mode: { pin: REVISION } },
    },
  )
  client.setRequestHandler('elicitation/create', () => ({
    action: 'accept',
    content: { ok: true, name: 'N', color: 'red' },
  }))
  client.setRequestHandler('roots/list', () => ({ roots: [{ uri: 'file:///a', name: 'a' }] }))
  client.setRequestHandler('sampling/createMessage', () => ({
    model: 'm',
    role: 'assistant',
    content: { type: 'text', text: 'Paris' },
  }))
  await client.connect(new StreamableHTTPClientTransport(new URL(`${replica.url}${path}`)))
  return client
}

t.test(
  'headers that contradict the body, or lack, are refused before the upstream sees anything',
  async (t) => {
    const call = { name: 'täst', arguments: {} }
    const refused: readonly [what: string, headers: Headers, body: string, code: number][] = [
      [
        'another revision',
        headersFor('ping', { 'mcp-protocol-version': '2025-11-25' }),
        bodyOf('ping'),
        -32020,
      ],
      ['another method', headersFor('tools/list'), bodyOf('tools/call', call), -32020],
      ['method in another case', headersFor('Tools/List'), bodyOf('tools/list'), -32020],
      ['no method', { ...POST_HEADERS, 'mcp-protocol-version': REVISION }, bodyOf('ping'), -32020],
      ['no revision', { ...POST_HEADERS, 'mcp-method': 'ping' }, bodyOf('ping'), -32020],
      ['no name', headersFor('tools/call'), bodyOf('tools/call', call), -32020],
      [
        'another name',
        headersFor('tools/call', { 'mcp-name': 'other' }),
        bodyOf('tools/call', call),
        -32020,
      ],
      [
        'a name in broken base64',
        headersFor('tools/call', { 'mcp-name': '=?base64?%%?=' }),
        bodyOf('tools/call', call),
        -32020,
      ],
      [
        'another prompt',
        headersFor('prompts/get', { 'mcp-name': 'x' }),
        bodyOf('prompts/get', { name: 'y' }),
        -32020,
      ],
      [
        'another resource',
        headersFor('resources/read', { 'mcp-name': 'a://b' }),
        bodyOf('resources/read', { uri: 'a://c' }),
        -32020,
      ],
      ['no _meta', headersFor('ping'), bodyOf('ping', {}, null), -32602],
      [
        'no capabilities',
        headersFor('ping'),
        bodyOf('ping', {}, { 'io.modelcontextprotocol/protocolVersion': REVISION }),
        -32602,
      ],
      [
        'no revision in _meta',
        headersFor('ping'),
        bodyOf('ping', {}, { 'io.modelcontextprotocol/clientCapabilities': {} }),
        -32602,
      ],
    ]
    const before = upstream.received.length
    for (const [what, headers, body, code] of refused) {
      const answer = await send(url, { headers, body })
      t.equal(answer.status, 400, what)
      t.match(answer.json(), { id: 'r-1', error: { code } }, what)
    }
    const response = await send(url, {
      headers: { ...POST_HEADERS, 'mcp-protocol-version': REVISION },
      body: '{"jsonrpc":"2.0","id":1,"result":{}}',
    })
    t.equal(response.status, 400, 'nobody may post a response')
    t.match(response.json(), { error: { code: -32600 } })
    t.equal(upstream.received.length, before)

    upstream.scripts.set('tools/call', (request) => sendResult(request, { resultType: 'complete' }))
    const accepted = await post('tools/call', call, {
      'mcp-name': encoded('täst'),
      'mcp-param-x': 'kept',
    })
    t.equal(accepted.status, 200, accepted.body)
    t.match(upstream.requests('tools/call').at(-1)?.headers, {
      'mcp-name': encoded('täst'),
      'mcp-param-x': 'kept',
      'mcp-method': 'tools/call',
      'mcp-protocol-version': REVISION,
    })
  },
)

t.test('a session id is ignored, not forwarded and never given', async (t) => {
  const session = await WireSession.open(url)
  for (const id of ['nonsense', session.id]) {
    const answer = await post('server/discover', {}, { 'mcp-session-id': id })
    t.equal(answer.status, 200)
    t.equal(answer.headers['mcp-session-id'], undefined)
  }
  t.ok(
    upstream
      .requests('server/discover')
      .every(({ headers }) => headers['mcp-session-id'] === undefined),
  )
  const notified = await send(url, {
    headers: headersFor('notifications/x'),
    body: JSON.stringify({ jsonrpc: '2.0', method: 'notifications/x', params: { _meta: META } }),
  })
  t.equal(notified.status, 202)
  await session.delete()
})

t.test('what is unknown passes byte for byte, and the upstream’s statuses with it', async (t) => {
  const body = `{"jsonrpc":"2.0", "id":"r-1","method":"vendor/x","params":{"n":98765432109876543210,"_meta":${JSON.stringify(META)}},"x":1e400}`
  const odd =
    '{"jsonrpc":"2.0","id":"r-1","result":{"resultType":"vendor","n":12345678901234567890,"a":1,"a":2}}'
  upstream.scripts.set('vendor/x', (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' }).end(odd)
  })
  t.equal((await send(url, { headers: headersFor('vendor/x'), body })).body, odd)
  t.equal(upstream.requests('vendor/x')[0]?.body, body)
  for (const [status, code] of [
    [404, -32601],
    [400, -32022],
    [400, -32021],
  ] as const) {
    const refusal = JSON.stringify({
      jsonrpc: '2.0',
      id: 'r-1',
      error: { code, message: 'm', data: { supported: [REVISION] } },
    })
    upstream.scripts.set('vendor/x', (_request, response) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(refusal)
    })
    const answer = await send(url, { headers: headersFor('vendor/x'), body })
    t.equal(answer.status, status)
    t.equal(answer.body, refusal)
  }
  const later = { ...META, 'io.modelcontextprotocol/protocolVersion': '2027-01-01' }
  upstream.scripts.set('vendor/x', (request) => sendResult(request, { later: true }))
  const answer = await send(url, {
    headers: headersFor('vendor/x', { 'mcp-protocol-version': '2027-01-01' }),
    body: bodyOf('vendor/x', {}, later),
  })
  t.match(
    answer.json(),
    { result: { later: true } },
    'which revisions there are is the upstream’s to say',
  )
})

t.test('several rounds carry the request state byte for byte', async (t) => {
  const state = 'b3BhcXVl.Ünicode "quoted" \\ 12345678901234567890'
  upstream.scripts.set('tools/call rounds', (request) => {
    const { params } = request.json as { params: Record<string, unknown> } // it was chosen by its params
    if (params['requestState'] === undefined)
      sendResult(request, {
        resultType: 'input_required',
        inputRequests: { k: { method: 'roots/list' } },
        requestState: state,
      })
    else sendResult(request, { resultType: 'complete', content: [], got: params['requestState'] })
  })
  const call = { name: 'rounds', arguments: {} }
  const first = await post('tools/call', call, { 'mcp-name': 'rounds' })
  t.equal(first.json().result?.['requestState'], state)
  const second = await post(
    'tools/call',
    { ...call, inputResponses: { k: { roots: [] } }, requestState: state },
    { 'mcp-name': 'rounds' },
  )
  t.equal(second.json().result?.['got'], state)

  const client = await connect('/mcp/everything')
  for (const [name, expected] of [
    ['test_input_required_result_request_state', 'state-ok'],
    ['test_input_required_result_multi_round', 'Both steps are done'],
    ['test_input_required_result_multiple_inputs', 'Answered'],
    ['test_input_required_result_list_roots', 'file:///a'],
  ] as const)
    t.match(JSON.stringify(await client.callTool({ name })), expected)
  await client.close()
})

t.test('progress, discovery and subscriptions work with the official client', async (t) => {
  const client = await connect('/mcp/everything')
  t.match(client.getServerVersion(), { name: 'everything-server' })
  const progress: number[] = []
  await client.callTool(
    { name: 'test_tool_with_progress' },
    { onprogress: (step) => progress.push(step.progress) },
  )
  t.same(progress, [0, 50, 100])
  const seen: string[] = []
  client.setNotificationHandler('notifications/tools/list_changed', () => void seen.push('tools'))
  client.setNotificationHandler(
    'notifications/resources/updated',
    ({ params }) => void seen.push(params.uri),
  )
  const listening = await client.listen({
    toolsListChanged: true,
    resourceSubscriptions: ['test://watched-resource'],
  })
  everything.announce({ kind: 'tools' })
  everything.announce({ kind: 'prompts' })
  everything.announce({ kind: 'resource', uri: 'test://watched-resource' })
  await eventually('both are told', () => seen.length === 2)
  t.same(seen, ['tools', 'test://watched-resource'])
  await listening.close()
  await client.close()
})

t.test(
  'a client that goes away cancels: the upstream’s connection is closed at once',
  async (t) => {
    for (const begun of [false, true]) {
      upstream.scripts.set('tools/call hang', (_request, response) => {
        if (!begun) return
        beginStream(response)
        response.write(event({ jsonrpc: '2.0', method: 'notifications/progress' }))
      })
      const before = upstream.requests('tools/call hang').length
      const leaving = new AbortController()
      const call = open(url, {
        headers: headersFor('tools/call', { 'mcp-name': 'hang' }),
        body: bodyOf('tools/call', { name: 'hang', arguments: {} }),
        signal: leaving.signal,
      })
      call.catch(() => {})
      await eventually('it arrived', () => upstream.requests('tools/call hang').length > before)
      if (begun) await (await call).until('progress')
      leaving.abort()
      await eventually(
        'it is cut',
        () => upstream.requests('tools/call hang').at(-1)?.isCut === true,
      )
    }
    t.equal(
      upstream.requests('notifications/cancelled').length,
      0,
      'closing is how this revision cancels',
    )
  },
)

t.test(
  'a subscription streams as it comes, with ids unchanged, and ends when the upstream ends it',
  async (t) => {
    let finish: (() => void) | undefined
    upstream.scripts.set('subscriptions/listen', (request, response) => {
      const id = idOf(request)
      const meta = { 'io.modelcontextprotocol/subscriptionId': id }
      beginStream(response)
      response.write(
        event({
          jsonrpc: '2.0',
          method: 'notifications/subscriptions/acknowledged',
          params: { _meta: meta },
        }),
      )
      finish = () =>
        void response.end(
          event({ jsonrpc: '2.0', id, result: { resultType: 'complete', _meta: meta } }),
        )
    })
    const stream = await open(url, {
      headers: headersFor('subscriptions/listen'),
      body: bodyOf('subscriptions/listen'),
    })
    await stream.until('acknowledged')
    finish?.()
    t.equal(await within('the end', stream.ended), 'end')
    const messages = messagesIn(stream.text())
    t.equal(messages.length, 2)
    t.match(messages[1], {
      id: 'r-1',
      result: { _meta: { 'io.modelcontextprotocol/subscriptionId': 'r-1' } },
    })
  },
)

t.test(
  'tools that move files say that they need a session; the helper is not offered; disabled tools stay hidden',
  async (t) => {
    const client = await connect('/mcp/wrapping')
    const { tools } = await client.listTools()
    const names = tools.map(({ name }) => name)
    t.ok(names.includes('test_simple_text'))
    t.notOk(names.some((name) => name.endsWith('get_upload_url')))
    t.notOk(names.includes('test_error_handling'))
    const wrapping = `${replica.url}/mcp/wrapping`
    const call = (name: string): Promise<WireAnswer> =>
      send(wrapping, {
        headers: headersFor('tools/call', { 'mcp-name': name }),
        body: bodyOf('tools/call', { name, arguments: {} }),
      })
    for (const name of ['test_simple_text', 'wrapping_get_upload_url']) {
      const answer = (await call(name)).json()
      t.match(answer, { id: 'r-1', error: { message: /session/ } })
      const code = answer.error?.code ?? 0
      t.ok(code > 0, 'a code that the revision does not keep for itself')
    }
    t.match((await call('test_error_handling')).json(), {
      id: 'r-1',
      error: { code: -32602, message: /Unknown tool/ },
    })
    t.match((await call('test_image_content')).body, 'image/png')
    await client.close()
  },
)

t.test('GET and DELETE without a session are refused', async (t) => {
  for (const method of ['GET', 'DELETE']) {
    const answer = await send(url, {
      method,
      headers: { accept: 'text/event-stream', 'mcp-protocol-version': REVISION },
    })
    t.ok(answer.status === 400 || answer.status === 405, `${method} ${answer.status}`)
  }
})

t.test('text of tools is cleaned without a session too, where nothing is pinned', async (t) => {
  for (const description of ['a\u200Bb', 'another\u202E', 'another\u202E', 'plain']) {
    upstream.scripts.set('tools/list', (request) =>
      sendResult(request, { tools: [{ name: 'x', description }] }),
    )
    const { result } = (await post('tools/list')).json()
    const cleaned = description.replaceAll(/[\u200B\u202E]/g, '')
    t.strictSame(result, { tools: [{ name: 'x', description: cleaned }] })
  }
  upstream.scripts.delete('tools/list')
})
