/** Clients of the HTTP+SSE transport of 2024-11-05, the official SDK's and others, before upstreams of today. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import {
  ElicitRequestSchema,
  ToolListChangedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js'
import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { connectLegacy, LegacyWire } from '../support/legacy-client.ts'
import { startReplica } from '../support/replica.ts'
import { startEverythingServer } from '../support/upstreams/everything-server.ts'
import { startFileServer } from '../support/upstreams/file-server.ts'
import {
  beginStream,
  event,
  idOf,
  sendJson,
  sendResult,
  startScriptedUpstream,
} from '../support/upstreams/scripted-upstream.ts'
import { send, WireSession } from '../support/wire.ts'

const TOKENS = { alice: 'token-of-alice-in-this-test', bob: 'token-of-bob-in-this-test' }
const ALICE = { 'x-mcp-adapter-auth-token': TOKENS.alice }
const BOB = { 'x-mcp-adapter-auth-token': TOKENS.bob }

const workspace = await mkdtemp(join(tmpdir(), 'adapter-legacy-'))
const files = await startFileServer({ workspace })
const everything = await startEverythingServer()
const scripted = await startScriptedUpstream()
const servers = [
  {
    id: 'files',
    mount_path: '/mcp/files',
    upstream: { url: files.url, workspace_root: workspace },
    adapters: [
      { type: 'upload_consumer', tools: ['read_file'], file_path_argument: 'path' },
      {
        type: 'artifact_producer',
        tools: ['write_report'],
        output_path_argument: 'filename',
        output_locator: { mode: 'regex' },
      },
    ],
  },
  { id: 'everything', mount_path: '/mcp/everything', upstream: { url: everything.url } },
  {
    id: 'scripted',
    mount_path: '/mcp/scripted',
    upstream: {
      url: scripted.url,
      client_headers: { required: ['X-Tenant'], passthrough: ['X-Tenant'] },
    },
  },
]
const core = {
  workers: 2,
  allow_artifacts_download: true,
  max_message_bytes: 100_000,
  auth: {
    enabled: true,
    tokens: [
      { name: 'alice', token: TOKENS.alice },
      { name: 'bob', token: TOKENS.bob },
    ],
  },
}
const replica = await startReplica({ config: { core, servers } })
t.teardown(async () => {
  await replica.stop()
  await Promise.all([files.stop(), everything.stop(), scripted.stop()])
  await rm(workspace, { recursive: true, force: true })
})

const FILES = `${replica.url}/mcp/files`
const EVERYTHING = `${replica.url}/mcp/everything`
const SCRIPTED = `${replica.url}/mcp/scripted`
const TENANT = { ...ALICE, 'x-tenant': 'one' }

t.test('a file goes in and a report comes out, as for any client', async (t) => {
  const client = await connectLegacy(FILES, { headers: ALICE })
  t.ok((await client.listTools()).tools.some(({ name }) => name === 'files_get_upload_url'))
  const helper = await client.callTool({ name: 'files_get_upload_url', arguments: {} })
  const { upload_url: url } = helper.structuredContent as { upload_url: string } // its declared output
  const form = new FormData()
  form.append('file', new Blob(['some bytes']), 'in.txt')
  const posted = await fetch(url, { method: 'POST', body: form })
  const upload = (await posted.json()) as { upload_handle: string; upload: { sha256: string } }
  const read = await client.callTool({
    name: 'read_file',
    arguments: { path: upload.upload_handle },
  })
  t.match(JSON.stringify(read.content), upload.upload.sha256)

  const report = await client.callTool({
    name: 'write_report',
    arguments: { filename: 'out.txt', content: 'hello report' },
  })
  const { artifact } = report._meta as { artifact: { artifact_uri: string; download_url: string } }
  t.match((await client.readResource({ uri: artifact.artifact_uri })).contents, [
    { text: 'hello report' },
  ])
  t.equal(await (await fetch(artifact.download_url)).text(), 'hello report')
  await client.close()
  await eventually('the upstream session is ended', () => files.sessions() === 0)
  t.equal((await fetch(artifact.download_url)).status, 404, 'the files go with the session')
})

t.test('progress, questions and news reach the client on its one stream', async (t) => {
  const changes: unknown[] = []
  const client = await connectLegacy(EVERYTHING, {
    headers: ALICE,
    capabilities: { elicitation: {} },
    prepare: (one) => {
      one.setRequestHandler(ElicitRequestSchema, () => ({
        action: 'accept',
        content: { username: 'ada', email: 'ada@example.com' },
      }))
      one.setNotificationHandler(ToolListChangedNotificationSchema, (change) => {
        changes.push(change)
      })
    },
  })
  const steps: number[] = []
  await client.callTool({ name: 'test_tool_with_progress', arguments: {} }, undefined, {
    onprogress: ({ progress }) => steps.push(progress),
  })
  // The SDK may drop what comes in one piece with the response.
  t.same(steps.slice(0, 2), [0, 50])

  const elicited = await client.callTool({
    name: 'test_elicitation',
    arguments: { message: 'who are you?' },
  })
  t.match(JSON.stringify(elicited.content), /action=accept.*ada@example\.com/)

  // Again and again, as it is not told when the stream is open.
  await eventually('the standalone stream brings what the upstream announces', () => {
    everything.announce({ kind: 'tools' })
    return changes.length > 0
  })
  await client.close()
})

t.test('a call is cancelled where it runs', async (t) => {
  const client = await connectLegacy(EVERYTHING, { headers: ALICE })
  const giving = new AbortController()
  const call = client.callTool(
    { name: 'test_slow_tool', arguments: { key: 'legacy-cancel', durationMs: 60_000 } },
    undefined,
    { signal: giving.signal, onprogress: () => giving.abort('changed my mind') },
  )
  await t.rejects(within('the call is given up', call))
  await eventually('the upstream hears of it', () =>
    everything
      .slowCalls()
      .some((one) => one.key === 'legacy-cancel' && one.outcome === 'cancelled'),
  )
  t.ok(await client.listTools(), 'the connection goes on')
  await client.close()
})

t.test('an answer whose stream the upstream closes half-way is asked for again', async (t) => {
  const client = await connectLegacy(EVERYTHING, { headers: ALICE })
  const result = await client.callTool({ name: 'test_reconnection', arguments: {} })
  t.match(JSON.stringify(result.content), /Answered after the stream was closed/)
  await client.close()
})

t.test('the session ends with the connection, also in the middle of a call', async (t) => {
  await eventually('no session is left', () => everything.sessionIds().length === 0)
  const client = await connectLegacy(EVERYTHING, { headers: ALICE })
  const call = client.callTool({
    name: 'test_slow_tool',
    arguments: { key: 'legacy-gone', durationMs: 60_000 },
  })
  call.catch(() => undefined)
  await eventually('the call runs', () =>
    everything.slowCalls().some((one) => one.key === 'legacy-gone'),
  )
  t.equal(everything.sessionIds().length, 1)
  await client.close()
  await eventually('the upstream session is ended', () => everything.sessionIds().length === 0)
})

t.test('each connection is a session of its own, on whichever worker', async (t) => {
  const clients = await Promise.all(
    Array.from({ length: 8 }, () => connectLegacy(EVERYTHING, { headers: ALICE })),
  )
  for (const client of clients) t.ok((await client.listTools()).tools.length > 0)
  await Promise.all(clients.map((client) => client.close()))
  await eventually('all are ended', () => everything.sessionIds().length === 0)
})

t.test('the endpoint is below the mount path, and takes messages with 202', async (t) => {
  const wire = await LegacyWire.open(SCRIPTED, TENANT)
  t.match(wire.stream.headers, { 'content-type': 'text/event-stream' })
  t.match(
    new URL(wire.endpoint).pathname + new URL(wire.endpoint).search,
    /^\/mcp\/scripted\/messages\?sessionId=[\w-]{16}\.\d\.[\w-]{32}$/,
  )
  await wire.initialize()
  t.same(await wire.request(7, 'tools/list'), {
    jsonrpc: '2.0',
    id: 7,
    result: { method: 'tools/list' },
  })
  t.equal(scripted.requests('tools/list')[0]?.headers['x-tenant'], 'one')
  t.equal(scripted.requests('tools/list')[0]?.headers['mcp-session-id'], [...scripted.sessions][0])
  t.equal(
    (await wire.post({ jsonrpc: '2.0', id: 1, method: 'initialize', params: {} })).status,
    400,
  )
  wire.stream.close()
  await eventually('the upstream session is ended', () => scripted.sessions.size === 0)
})

t.test('what a message gets that can not be taken is told at once', async (t) => {
  const wire = await LegacyWire.open(SCRIPTED, TENANT)
  const early = await wire.post({ jsonrpc: '2.0', id: 1, method: 'tools/list' })
  t.equal(early.status, 400)
  t.match(early.body, 'ADAPTER_SESSION_REQUIRED')
  await wire.initialize()
  const bad: readonly (readonly [string, Record<string, string>, number, string])[] = [
    ['{', {}, 400, 'ADAPTER_PARSE_ERROR'],
    ['', {}, 400, 'ADAPTER_PARSE_ERROR'],
    ['\u{feff}[]', {}, 400, 'ADAPTER_PARSE_ERROR'],
    ['[]', {}, 400, 'ADAPTER_INVALID_REQUEST'],
    ['{"method":"x"}', {}, 400, 'ADAPTER_INVALID_REQUEST'],
    ['{}', { 'content-type': 'text/plain' }, 415, 'ADAPTER_UNSUPPORTED_MEDIA_TYPE'],
    ['{}', { 'content-encoding': 'gzip' }, 415, 'ADAPTER_UNSUPPORTED_MEDIA_TYPE'],
    ['{}', { 'x-tenant': '' }, 400, 'ADAPTER_CLIENT_HEADER_MISSING'],
    [`"${'x'.repeat(100_000)}"`, {}, 413, 'ADAPTER_MESSAGE_TOO_LARGE'],
    ['{}', { 'x-mcp-adapter-auth-token': 'wrong' }, 401, 'ADAPTER_UNAUTHORIZED'],
    ['{}', { origin: 'https://evil.example' }, 403, 'ADAPTER_ORIGIN_REFUSED'],
    ['{}', { host: 'evil.example' }, 403, 'ADAPTER_HOST_REFUSED'],
  ]
  for (const [body, headers, status, code] of bad) {
    const answer = await wire.post(body, headers)
    t.equal(answer.status, status, body.slice(0, 40))
    t.match(answer.body, code)
  }
  t.equal((await wire.request(9, 'tools/list')).id, 9, 'the connection goes on')
  wire.stream.close()
})

t.test('a stream is opened by GET, messages are POSTed, and nothing else is served', async (t) => {
  const ask = async (path: string, method: string, headers: Record<string, string> = {}) =>
    send(`${replica.url}${path}`, { method, headers: { ...TENANT, ...headers } })
  for (const method of ['POST', 'PUT', 'DELETE']) {
    const answer = await ask('/mcp/scripted/sse', method)
    t.equal(answer.status, 405)
    t.equal(answer.headers.allow, 'GET')
  }
  for (const method of ['GET', 'DELETE']) {
    const answer = await ask('/mcp/scripted/messages', method)
    t.equal(answer.status, 405)
    t.equal(answer.headers.allow, 'POST')
  }
  t.equal((await ask('/mcp/scripted/sse', 'GET', { accept: 'application/json' })).status, 406)
  t.equal((await ask('/mcp/scripted/sse/', 'GET')).status, 404)
  const anonymous = await send(`${SCRIPTED}/sse`, { method: 'GET' })
  t.equal(anonymous.status, 401)
  t.match(anonymous.headers['www-authenticate'], /Bearer/)
  const noTenant = await send(`${SCRIPTED}/sse`, { method: 'GET', headers: ALICE })
  t.match(noTenant.body, 'ADAPTER_CLIENT_HEADER_MISSING')
})

function postTo(url: string, headers: Readonly<Record<string, string>> = TENANT) {
  return send(url, {
    headers: { 'content-type': 'application/json', ...headers },
    body: '{"jsonrpc":"2.0","id":5,"method":"tools/list"}',
  })
}

t.test('a stream that is not there and one of somebody else are the same 404', async (t) => {
  const wire = await LegacyWire.open(SCRIPTED, TENANT)
  await wire.initialize()
  const foreign = await postTo(wire.endpoint, { ...TENANT, ...BOB })
  t.equal(foreign.status, 404)
  t.match(foreign.body, 'ADAPTER_SESSION_UNKNOWN')
  const unknown = await postTo(`${wire.endpoint.slice(0, -4)}AAAA`)
  t.equal(unknown.status, 404)
  t.equal(unknown.body, foreign.body)
  const otherServer = await postTo(wire.endpoint.replace('/mcp/scripted/', '/mcp/everything/'))
  t.equal(otherServer.status, 404)
  t.equal(otherServer.body, foreign.body)
  for (const query of ['', '?sessionId=', '?sessionId=x', `?sessionId=${'%41'.repeat(30)}`]) {
    const answer = await postTo(`${SCRIPTED}/messages${query}`)
    t.equal(answer.status, 404, query)
    t.equal(answer.body, foreign.body)
  }
  const elsewhere = await postTo(
    `${SCRIPTED}/messages?sessionId=${'r'.repeat(16)}.0.${'x'.repeat(32)}`,
  )
  t.equal(elsewhere.status, 404)
  t.match(elsewhere.body, /ADAPTER_SESSION_UNKNOWN/)
  t.same(
    scripted.requests('tools/list').filter((one) => idOf(one) === 5),
    [],
  )
  t.equal((await wire.request(6, 'tools/list')).id, 6, 'its own client is served')
  wire.stream.close()
})

t.test('every request gets a response, whatever the upstream does', async (t) => {
  const wire = await LegacyWire.open(SCRIPTED, TENANT)
  await wire.initialize()
  const call = (id: number, name: string) => wire.request(id, 'tools/call', { name, arguments: {} })
  scripted.scripts.set('tools/call html', (_request, response) => {
    response.writeHead(500, { 'content-type': 'text/html' }).end('<h1>no</h1>')
  })
  scripted.scripts.set('tools/call cut', (_request, response) => {
    response.destroy()
  })
  scripted.scripts.set('tools/call half', (_request, response) => {
    beginStream(response)
    response.write(event({ jsonrpc: '2.0', method: 'notifications/message', params: {} }))
    setTimeout(() => response.destroy(), 20)
  })
  scripted.scripts.set('tools/call ended', (_request, response) => {
    beginStream(response)
    response.end(': nothing\n\n')
  })
  scripted.scripts.set('tools/call nobody', (_request, response) => {
    response.writeHead(400, { 'content-type': 'application/json' })
    response.end('{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"not so"}}')
  })
  scripted.scripts.set('tools/call empty', (_request, response) => {
    response.writeHead(202).end()
  })
  scripted.scripts.set('tools/call pretty', (request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' })
    const result = { text: 'zwei\nZeilen' }
    response.end(
      JSON.stringify({ jsonrpc: '2.0', id: idOf(request), result }, null, 2).replaceAll(
        '\n',
        '\r\n',
      ),
    )
  })
  const codes: readonly (readonly [string, number])[] = [
    ['html', 1502],
    ['cut', 1502],
    ['half', 1502],
    ['ended', 1502],
    ['nobody', -32000],
    ['empty', 1502],
  ]
  for (const [index, [name, code]] of codes.entries())
    t.equal((await call(20 + index, name)).error?.code, code, name)
  await wire.post({ jsonrpc: '2.0', id: 40, method: 'tools/call', params: { name: 'pretty' } })
  await wire.stream.until('Zeilen')
  await eventually('it is whole', () =>
    wire.messages().some((one) => one.id === 40 && one.result?.['text'] === 'zwei\nZeilen'),
  )
  wire.stream.close()
})

t.test('a batch is answered message by message', async (t) => {
  const wire = await LegacyWire.open(SCRIPTED, TENANT)
  await wire.initialize()
  scripted.scripts.set('batch', (request, response) => {
    const ids = (request.json as { id: number }[]).map(({ id }) => id) // what the test sends
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(JSON.stringify(ids.map((id) => ({ jsonrpc: '2.0', id, result: {} }))))
  })
  const batch = [50, 51].map((id) => ({ jsonrpc: '2.0', id, method: 'tools/list' }))
  t.equal((await wire.post(batch)).status, 202)
  t.same((await wire.response(50)).result, {})
  t.same((await wire.response(51)).result, {})
  wire.stream.close()
})

t.test('an upstream session that is lost for good ends the connection', async (t) => {
  const wire = await LegacyWire.open(SCRIPTED, TENANT)
  await wire.initialize()
  scripted.sessions.clear()
  scripted.scripts.set('initialize', (request, response) => {
    sendJson(response, { jsonrpc: '2.0', id: idOf(request), error: { code: -1, message: 'no' } })
  })
  const lost = await wire.request(60, 'tools/list')
  scripted.scripts.delete('initialize')
  t.match(lost.error, { data: { code: 'ADAPTER_SESSION_UNKNOWN' } })
  t.equal(await within('the stream ends', wire.stream.ended), 'end')
})

t.test('Streamable HTTP is served beside it as ever', async (t) => {
  const legacy = await LegacyWire.open(SCRIPTED, TENANT)
  await legacy.initialize()
  const session = await WireSession.open(SCRIPTED, { headers: TENANT })
  scripted.scripts.set('tools/call both', (request) => sendResult(request, { ok: true }))
  const answer = await session.request('tools/call', { name: 'both', arguments: {} })
  t.same(answer.json().result, { ok: true })
  t.match(await legacy.request(80, 'tools/call', { name: 'both' }), { result: { ok: true } })
  legacy.stream.close()
})

t.test('switched off, nothing is served there', async (t) => {
  const off = await startReplica({
    config: { core: { legacy_sse: { enabled: false } }, servers: servers.slice(1, 2) },
  })
  t.teardown(() => off.stop())
  for (const [method, path] of [
    ['GET', 'sse'],
    ['POST', 'messages?sessionId=x'],
  ] as const) {
    const answer = await send(`${off.url}/mcp/everything/${path}`, { method })
    t.equal(answer.status, 404)
    t.match(answer.body, 'ADAPTER_ROUTE_UNKNOWN')
  }
})

t.test('a prefix of the public address is part of the endpoint', async (t) => {
  const behind = await startReplica({
    config: {
      core: { public_base_url: 'http://127.0.0.1/gateway/' },
      servers: servers.slice(1, 2),
    },
  })
  t.teardown(() => behind.stop())
  const wire = await LegacyWire.open(`${behind.url}/mcp/everything`)
  t.match(new URL(wire.endpoint).pathname, '/gateway/mcp/everything/messages')
  wire.stream.close()
})
