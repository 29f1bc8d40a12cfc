/** What the edge of the adapter shows and demands: headers of answers, health, headers of clients, TLS. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { RawConnection } from '../support/raw-http.ts'
import { startReplica } from '../support/replica.ts'
import { startScriptedUpstream } from '../support/upstreams/scripted-upstream.ts'
import { initialize, POST_HEADERS, send, WireSession } from '../support/wire.ts'
import { CERTIFICATE, KEY } from '../worker/upstream-certificate.ts'

t.setTimeout(120_000)

const TOKEN = 'a token for the tests of the edge'
const auth = { 'x-mcp-adapter-auth-token': TOKEN }

const upstream = await startScriptedUpstream()
const withCredentials = upstream.url.replace('http://', 'http://user:url-secret@')
const adapters = [{ type: 'upload_consumer', tools: ['read'], file_path_argument: 'path' }]
const replica = await startReplica({
  config: {
    core: { auth: { enabled: true, token: TOKEN }, allow_artifacts_download: true, workers: 1 },
    servers: [
      { id: 'open', mount_path: '/mcp/open', upstream: { url: upstream.url }, adapters },
      { id: 'secret', mount_path: '/mcp/secret', upstream: { url: withCredentials } },
      {
        id: 'strict',
        mount_path: '/mcp/strict',
        upstream: {
          url: upstream.url,
          client_headers: { required: ['X-Tenant', 'X-User'], passthrough: ['X-Tenant', 'X-Hop'] },
        },
      },
    ],
  },
})
const directory = await mkdtemp(join(tmpdir(), 'adapter-edge-'))
t.teardown(async () => {
  await replica.stop()
  await upstream.stop()
  await rm(directory, { recursive: true, force: true })
})
const strict = `${replica.url}/mcp/strict`

t.test(
  'whatever a browser may show is told not to be sniffed, framed, kept or told of',
  async (t) => {
    const session = await WireSession.open(`${replica.url}/mcp/open`, { headers: auth })
    const helper = await session.call('open_get_upload_url')
    const uploadUrl = /"upload_url":"([^"]+)"/.exec(helper.body)?.[1] ?? ''
    const html = { accept: 'text/html' }
    const get = (path: string, headers: Record<string, string> = {}) =>
      send(path.startsWith('http') ? path : replica.url + path, { method: 'GET', headers })
    const answers = {
      'upload page': await get(uploadUrl, html),
      'upload error page': await get('/upload/open?mcp_upload_sig=1', html),
      'upload error': await get('/upload/open'),
      uploaded: await send(uploadUrl, { method: 'PUT', body: 'x' }),
      'download error': await get('/artifacts/open/a/b/c?mcp_artifact_sig=1'),
      'no token': await get('/mcp/open', { accept: 'text/event-stream' }),
      'no session': await get('/mcp/open', { accept: 'text/event-stream', ...auth }),
      'no JSON': await session.post('{'),
      'no route': await get('/'),
      health: await get('/healthz'),
      livez: await get('/livez'),
    }
    t.same(
      Object.values(answers).map(({ status }) => status),
      [200, 403, 403, 200, 404, 401, 400, 400, 404, 200, 200],
    )
    for (const [name, { headers }] of Object.entries(answers)) {
      t.match(
        headers,
        {
          'x-content-type-options': 'nosniff',
          'referrer-policy': 'no-referrer',
          'cache-control': 'no-store',
          'content-security-policy': /default-src 'none'.*frame-ancestors 'none'/,
        },
        name,
      )
      t.notHas(headers, 'strict-transport-security', `${name}: there is no TLS`)
    }
  },
)

t.test('health tells addresses and paths to nobody who is not known', async (t) => {
  const health = (headers: Record<string, string> = {}, path = '/healthz') =>
    send(replica.url + path, { method: 'GET', headers })
  for (const headers of [{}, { 'x-mcp-adapter-auth-token': 'wrong' }]) {
    const { status, body } = await health(headers)
    t.equal(status, 200)
    t.match(JSON.parse(body), {
      status: 'ok',
      servers: [{ server_id: 'open' }, { server_id: 'secret' }, { server_id: 'strict' }],
      persistence: { type: 'disk', status: 'ok', state_inventory: {} },
    })
    for (const secret of [replica.root, upstream.url, 'url-secret', String(upstream.port), '.db'])
      t.notMatch(body, secret, `${secret} is not told`)
  }
  for (const headers of [auth, { authorization: `Bearer ${TOKEN}` }]) {
    const { body } = await health(headers)
    t.match(JSON.parse(body), {
      servers: [{ upstream_url: upstream.url }, { upstream_url: /<redacted>@/ }, {}],
      persistence: { backend_details: { mode: 'sqlite', storage_root: replica.root } },
    })
    t.notMatch(body, 'url-secret', 'nobody is told a credential')
    t.notMatch(body, TOKEN)
  }
  for (const probe of ['/livez', '/readyz'])
    t.equal((await health(auth, probe)).body, '{"status":"ok"}', probe)
})

t.test('without authentication nobody is known', async (t) => {
  const open = await startReplica({
    config: { servers: [{ id: 'open', mount_path: '/mcp/open', upstream: { url: upstream.url } }] },
  })
  t.teardown(() => open.stop())
  const { body } = await send(`${open.url}/healthz`, { method: 'GET', headers: auth })
  t.notMatch(body, open.root)
  t.notMatch(body, upstream.url)
})

t.test('a header that a server requires is asked for with every request, by name', async (t) => {
  const both = { ...auth, 'x-tenant': 'one', 'X-USER': 'somebody' }
  const before = upstream.received.length
  for (const [missing, headers] of [
    ['x-tenant', auth],
    ['x-user', { ...auth, 'x-tenant': 'one' }],
    ['x-user', { ...auth, 'x-tenant': 'one', 'x-user': '' }],
  ] as const) {
    const answer = await initialize(strict, '2025-06-18', headers)
    t.equal(answer.status, 400)
    t.match(answer.json(), {
      jsonrpc: '2.0',
      id: null,
      error: {
        code: -32600,
        message: `header ${missing} is required by this server`,
        data: { code: 'ADAPTER_CLIENT_HEADER_MISSING' },
      },
    })
  }
  t.equal((await initialize(strict)).status, 401, 'who asks comes first')
  t.equal(upstream.received.length, before, 'nothing reached the upstream')
  const session = await WireSession.open(strict, { headers: both })
  t.equal((await session.request('ping')).status, 200)
  const bare = { ...POST_HEADERS, ...auth, 'mcp-session-id': session.id }
  for (const method of ['POST', 'GET', 'DELETE']) {
    const answer = await send(strict, { method, headers: bare })
    t.match(answer.json(), { error: { data: { code: 'ADAPTER_CLIENT_HEADER_MISSING' } } }, method)
  }
  t.equal((await session.request('ping')).status, 200, 'the session is still there')
  const open = await initialize(`${replica.url}/mcp/open`, '2025-06-18', auth)
  t.equal(open.status, 200, 'other servers do not ask')
})

t.test(
  'what Connection names stays on its connection, and required headers travel only when passed',
  async (t) => {
    const body = JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'initialize',
      params: {
        protocolVersion: '2025-06-18',
        capabilities: {},
        clientInfo: { name: 'raw', version: '1' },
      },
    })
    const connection = new RawConnection(replica.port)
    t.teardown(() => connection.destroy())
    connection.send(
      'POST /mcp/strict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n' +
        `Accept: application/json, text/event-stream\r\nX-Mcp-Adapter-Auth-Token: ${TOKEN}\r\n` +
        'X-Hop: secret\r\nMcp-Hop: secret\r\nX-Tenant: one\r\nX-User: somebody\r\nCookie: a=b\r\n' +
        'Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nBaggage: k=v\r\n' +
        `Connection: keep-alive, X-Hop , MCP-HOP\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    )
    const answer = await connection.response()
    t.equal(answer.status, 200, answer.body)
    const { headers } = upstream.requests('initialize').at(-1) ?? { headers: {} }
    t.match(headers, {
      'x-tenant': 'one',
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
      baggage: 'k=v',
    })
    for (const name of ['x-hop', 'mcp-hop', 'x-user', 'cookie', 'x-mcp-adapter-auth-token'])
      t.notHas(headers, name)
    const second = new RawConnection(replica.port)
    t.teardown(() => second.destroy())
    second.send(
      'POST /mcp/strict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n' +
        `Accept: application/json, text/event-stream\r\nX-Mcp-Adapter-Auth-Token: ${TOKEN}\r\n` +
        'X-Tenant: one\r\nX-User: somebody\r\nConnection: keep-alive, X-Tenant\r\n' +
        `Content-Length: ${body.length}\r\n\r\n${body}`,
    )
    const lost = await second.response()
    t.equal(lost.status, 400, 'a required header can not be taken away by naming it')
    t.match(lost.body, 'header x-tenant is required')
  },
)

t.test('TLS that can not be had is refused at the start, with what would help', async (t) => {
  const [cert, key, other] = ['cert.pem', 'key.pem', 'other.pem'].map((name) =>
    join(directory, name),
  )
  await writeFile(cert ?? '', CERTIFICATE)
  await writeFile(key ?? '', KEY)
  await writeFile(other ?? '', 'no certificate')
  const start = (tls: object) =>
    startReplica({
      config: {
        core: { tls },
        servers: [{ id: 'open', mount_path: '/mcp/open', upstream: { url: upstream.url } }],
      },
    })
  await t.rejects(start({ cert_file: join(directory, 'none.pem'), key_file: key }), {
    message: /ended with 2[^]*core\.tls\.cert_file can't be used \(ENOENT\)/,
  })
  await t.rejects(start({ cert_file: other, key_file: key }), {
    message: /ended with 2[^]*core\.tls\.cert_file can't be used/,
  })
  await t.rejects(start({ cert_file: cert, key_file: cert }), {
    message: /ended with 2[^]*core\.tls\.key_file can't be used/,
  })
  const { loadNative } = await import('../../src/primary/listener/native.ts')
  if (!loadNative().supportsTls) {
    await t.rejects(start({ cert_file: cert, key_file: key }), {
      message: /ended with 1[^]*has no TLS[^]*glibc 2\.38 or newer[^]*proxy in front/,
    })
    return
  }
  const served = await start({ cert_file: cert, key_file: key })
  t.equal(await served.stop(), 0)
})
