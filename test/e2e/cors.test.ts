/** Pages of other origins as clients: what a browser is told, on every kind of answer, and what a real one makes of it. */
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { startReplica } from '../support/replica.ts'
import { event, idOf, startScriptedUpstream } from '../support/upstreams/scripted-upstream.ts'
import { startPlaywright } from '../support/upstreams/playwright.ts'
import { initialize, open, POST_HEADERS, send, WireSession } from '../support/wire.ts'

t.setTimeout(120_000)

const TOKEN = 'a token for the tests of browsers'
const APP = 'https://app.example.com'

const upstream = await startScriptedUpstream()
upstream.scripts.set('tools/call stream', (request, response) => {
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  response.write(event({ jsonrpc: '2.0', method: 'notifications/progress', params: {} }))
  response.end(event({ jsonrpc: '2.0', id: idOf(request), result: { content: [] } }))
})
const servers = [{ id: 'one', mount_path: '/mcp/one', upstream: { url: upstream.url } }]
const pages = await Promise.all([startPage(), startPage()])
const [own, foreign] = pages
const replica = await startReplica({
  config: {
    core: {
      auth: { enabled: true, token: TOKEN },
      cors: {
        enabled: true,
        allowed_origins: [APP, own.origin],
        exposed_headers: ['X-Trace'],
        max_age_seconds: 77,
      },
      allow_artifacts_download: true,
    },
    servers,
  },
})
t.teardown(async () => {
  await replica.stop()
  await upstream.stop()
  for (const page of pages) page.stop()
})
const mcp = `${replica.url}/mcp/one`
const auth = { 'x-mcp-adapter-auth-token': TOKEN }

t.test('a preflight is answered before anybody asks for a token, on any path', async (t) => {
  for (const path of ['/mcp/one', '/upload/one', '/artifacts/one/x/y/z', '/healthz', '/nowhere']) {
    const answer = await preflight(replica.url + path, APP, {
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization,mcp-session-id',
    })
    t.equal(answer.status, 204, path)
    t.match(answer.headers, {
      'access-control-allow-origin': APP,
      'access-control-allow-methods': 'GET, POST, PUT, DELETE, OPTIONS',
      'access-control-allow-headers': 'authorization,mcp-session-id',
      'access-control-max-age': '77',
      'x-request-id': /^[\w.-]{8,64}$/,
      vary: 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers',
    })
    t.notHas(answer.headers, 'access-control-allow-credentials')
    t.equal(answer.body, '')
  }
  t.equal(upstream.received.length, 0, 'nothing reached the upstream')
})

t.test('a preflight that is none, or of another origin, is granted nothing', async (t) => {
  const asked = { 'access-control-request-method': 'POST' }
  const others: [string, Record<string, string>][] = [
    ['https://evil.example', asked],
    [`${APP}.evil.example`, asked],
    ['null', asked],
    [APP, {}],
    [APP, { 'access-control-request-method': 'P OST' }],
  ]
  for (const [origin, headers] of others) {
    const answer = await preflight(mcp, origin, headers)
    t.ok(answer.status === 401 || answer.status === 403, `${origin}: ${answer.status}`)
    t.notHas(answer.headers, 'access-control-allow-methods', origin)
    t.match(answer.headers.vary, /Origin/, origin)
    if (origin !== APP) t.notHas(answer.headers, 'access-control-allow-origin', origin)
  }
  const odd = await preflight(mcp, APP, {
    ...asked,
    'access-control-request-headers': 'a: b;c',
  })
  t.equal(odd.status, 204)
  t.notHas(odd.headers, 'access-control-allow-headers', 'what is no list of names is not repeated')
})

t.test('every kind of answer tells a page that it may read it, and its headers', async (t) => {
  const origin = { origin: APP }
  const session = await WireSession.open(mcp, { headers: { ...auth, ...origin } })
  const stream = await session.stream(session.message('tools/call', { name: 'stream' }))
  await stream.ended
  t.match(stream.headers['content-type'], 'text/event-stream')
  const answers = {
    initialize: await initialize(mcp, '2025-06-18', { ...auth, ...origin }),
    call: await session.request('tools/list'),
    stream,
    'no token': await initialize(mcp, '2025-06-18', origin),
    'unknown path': await send(`${replica.url}/nowhere`, { method: 'GET', headers: origin }),
    'unknown session': await send(mcp, {
      headers: { ...POST_HEADERS, ...auth, ...origin, 'mcp-session-id': 'x'.repeat(32) },
      body: '{"jsonrpc":"2.0","id":1,"method":"ping"}',
    }),
    'no JSON': await session.post('{'),
    method: await send(mcp, { method: 'PATCH', headers: { ...auth, ...origin } }),
    upload: await send(`${replica.url}/upload/one`, { body: 'x', headers: origin }),
    download: await send(`${replica.url}/artifacts/one/a/b/c?mcp_artifact_sig=1`, {
      method: 'GET',
      headers: origin,
    }),
    health: await send(`${replica.url}/healthz`, { method: 'GET', headers: origin }),
    'too large': await tooLarge({ ...POST_HEADERS, ...auth, ...origin }),
  }
  t.same(
    Object.values(answers).map(({ status }) => status),
    [200, 200, 200, 401, 404, 404, 400, 405, 403, 404, 200, 413],
  )
  for (const [name, { headers }] of Object.entries(answers)) {
    t.equal(headers['access-control-allow-origin'], APP, name)
    t.match(headers['vary'], /Origin/, name)
    const exposed = String(headers['access-control-expose-headers']).split(', ')
    for (const wanted of ['Mcp-Session-Id', 'WWW-Authenticate', 'Retry-After', 'X-Trace'])
      t.ok(exposed.includes(wanted), `${name} exposes ${wanted}`)
  }
})

t.test('without an Origin nothing is granted, but caches are told that it matters', async (t) => {
  const answer = await initialize(mcp, '2025-06-18', auth)
  t.equal(answer.status, 200)
  t.equal(answer.headers['vary'], 'Origin')
  t.notHas(answer.headers, 'access-control-allow-origin')
})

t.test('an origin that is not listed is refused before its message is read', async (t) => {
  const before = upstream.received.length
  const answer = await initialize(mcp, '2025-06-18', { ...auth, origin: 'https://evil.example' })
  t.equal(answer.status, 403)
  t.match(answer.json(), { error: { data: { code: 'ADAPTER_ORIGIN_REFUSED' } } })
  t.notHas(answer.headers, 'access-control-allow-origin')
  t.equal(upstream.received.length, before)
})

t.test('any origin may be allowed, and then the same is said to all', async (t) => {
  const any = await startReplica({
    config: {
      core: { cors: { enabled: true, allowed_origins: ['*'], allowed_methods: ['*'] } },
      servers,
    },
  })
  t.teardown(() => any.stop())
  const url = `${any.url}/mcp/one`
  for (const origin of ['https://a.example', 'null']) {
    const answer = await initialize(url, '2025-06-18', { origin })
    t.equal(answer.status, 200, origin)
    t.equal(answer.headers['access-control-allow-origin'], '*')
    t.notHas(answer.headers, 'vary')
    const asked = await preflight(url, origin, {
      'access-control-request-method': 'DELETE',
      'access-control-request-headers': 'authorization',
    })
    t.equal(asked.headers['access-control-allow-methods'], 'DELETE')
    t.equal(asked.headers['access-control-allow-headers'], 'authorization')
  }
})

t.test('origins by name may send credentials', async (t) => {
  const named = await startReplica({
    config: {
      core: {
        cors: {
          enabled: true,
          allowed_origins: [APP],
          allowed_headers: ['Content-Type', 'Mcp-Session-Id'],
          allow_credentials: true,
        },
      },
      servers,
    },
  })
  t.teardown(() => named.stop())
  const answer = await initialize(`${named.url}/mcp/one`, '2025-06-18', { origin: APP })
  t.match(answer.headers, {
    'access-control-allow-origin': APP,
    'access-control-allow-credentials': 'true',
  })
  const asked = await preflight(`${named.url}/mcp/one`, APP, {
    'access-control-request-method': 'POST',
    'access-control-request-headers': 'x-other',
  })
  t.equal(asked.headers['access-control-allow-headers'], 'Content-Type, Mcp-Session-Id')
})

t.test('nothing is said of origins where CORS is off', async (t) => {
  const off = await startReplica({
    config: { core: { cors: { allowed_origins: [APP] } }, servers },
  })
  t.teardown(() => off.stop())
  const refused = await initialize(`${off.url}/mcp/one`, '2025-06-18', { origin: APP })
  t.equal(refused.status, 403, 'the list counts only where CORS is on')
  const answer = await initialize(`${off.url}/mcp/one`)
  for (const name of ['vary', 'access-control-allow-origin', 'access-control-expose-headers'])
    t.notHas(answer.headers, name)
  const asked = await preflight(`${off.url}/mcp/one`, 'http://localhost', {
    'access-control-request-method': 'POST',
  })
  t.equal(asked.status, 405)
})

t.test('in a browser, a page of an allowed origin is a client, and any other is not', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'adapter-cors-'))
  const playwright = await startPlaywright(directory)
  t.teardown(async () => {
    await playwright.stop()
    await rm(directory, { recursive: true, force: true, maxRetries: 5 })
  })
  const browser = await WireSession.open(playwright.url)
  const run = async (page: string): Promise<string> => {
    await browser.call('browser_navigate', { url: page })
    const answer = await browser.call('browser_evaluate', { function: client(mcp) })
    return answer.body
  }
  const before = upstream.requests('tools/call page').length
  const allowed = await run(`${own.origin}/`)
  t.match(allowed, /session=[A-Za-z0-9_-]{20,} status=200 method=tools\/call unauthorized=401/)
  t.equal(upstream.requests('tools/call page').length, before + 1)
  const refused = await run(`${foreign.origin}/`)
  t.match(refused, /TypeError: Failed to fetch/)
  t.notMatch(refused, /session=[A-Za-z0-9_-]/)
  t.equal(upstream.requests('tools/call page').length, before + 1, 'nothing was called')
})

/** The source of a function for the browser: initialises, reads the session id, calls a tool, and reads a refusal. */
function client(url: string): string {
  const headers = { ...POST_HEADERS, ...auth }
  const version = '2025-06-18'
  const params = {
    protocolVersion: version,
    capabilities: {},
    clientInfo: { name: 'page', version: '1' },
  }
  const init = { jsonrpc: '2.0', id: 1, method: 'initialize', params }
  const call = {
    jsonrpc: '2.0',
    id: 2,
    method: 'tools/call',
    params: { name: 'page', arguments: {} },
  }
  return `async () => {
    const post = (message, headers) => fetch(${JSON.stringify(url)}, { method: 'POST', headers, body: JSON.stringify(message) })
    try {
      const headers = ${JSON.stringify(headers)}
      const opened = await post(${JSON.stringify(init)}, headers)
      const session = opened.headers.get('mcp-session-id')
      const called = await post(${JSON.stringify(call)}, { ...headers, 'mcp-session-id': session, 'mcp-protocol-version': '${version}' })
      const answer = await called.json()
      const refused = await post(${JSON.stringify(init)}, ${JSON.stringify(POST_HEADERS)})
      await refused.json()
      return 'session=' + session + ' status=' + called.status + ' method=' + answer.result.method + ' unauthorized=' + refused.status
    } catch (error) { return String(error) }
  }`
}

function preflight(url: string, origin: string, headers: Readonly<Record<string, string>>) {
  return send(url, { method: 'OPTIONS', headers: { origin, ...headers } })
}

/** A body that is refused by its announced length, while it is under way. */
async function tooLarge(headers: Readonly<Record<string, string>>) {
  return open(mcp, { headers, body: Buffer.alloc(17 * 1024 * 1024, ' ') })
}

async function startPage() {
  const server = createServer((_request, response) =>
    response.setHeader('content-type', 'text/html').end('<!doctype html><title>Client</title>'),
  )
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  // A listening TCP server has an address of this type.
  const { port } = server.address() as AddressInfo
  return {
    origin: `http://127.0.0.1:${port}`,
    stop: () => {
      server.closeAllConnections()
      server.close()
    },
  }
}
