// The relay at byte level: what passes unchanged, which headers cross, which session ids and batches are taken.
import { setTimeout as delay } from 'node:timers/promises'

import t from 'tap'

import { startReplica } from '../support/replica.ts'
import {
  beginStream,
  event,
  idOf,
  sendJson,
  sendResult,
  startScriptedUpstream,
} from '../support/upstreams/scripted-upstream.ts'
import type { Script } from '../support/upstreams/scripted-upstream.ts'
import { messagesIn, POST_HEADERS, send, WireSession } from '../support/wire.ts'

const TOKEN = 'adapter-token-of-this-test'
const AUTH = { 'x-mcp-adapter-auth-token': TOKEN }

/** A comment that may come first, as the head is sent before there is anything to send. */
const OPENING_COMMENT = /^:\n\n/

const upstream = await startScriptedUpstream()
const stateless = await startScriptedUpstream({ stateless: true })
const replica = await startReplica({
  config: {
    core: { auth: { enabled: true, token: TOKEN }, workers: 1 },
    servers: [
      {
        id: 'raw',
        mount_path: '/mcp/raw',
        upstream: {
          url: upstream.url,
          static_headers: { 'X-Static': 'from-config', 'X-Both': 'static' },
          client_headers: { passthrough: ['X-Wanted', 'X-Both'] },
        },
      },
      { id: 'stateless', mount_path: '/mcp/stateless', upstream: { url: stateless.url } },
    ],
  },
})
t.teardown(async () => {
  await replica.stop()
  await upstream.stop()
  await stateless.stop()
})

const raw = await WireSession.open(`${replica.url}/mcp/raw`, { headers: AUTH })
const plain = await WireSession.open(`${replica.url}/mcp/stateless`, { headers: AUTH })

let scripts = 0
/** Makes a tool of the upstream; answers its name. */
function tool(script: Script): string {
  const name = `tool-${++scripts}`
  upstream.scripts.set(`tools/call ${name}`, script)
  return name
}

function callOf(session: WireSession, name: string) {
  return session.message('tools/call', { name, arguments: {} })
}

t.test(
  'an event stream passes byte for byte, whatever its line ends and wherever it is cut',
  async (t) => {
    const answer = JSON.stringify({ jsonrpc: '2.0', id: 1, result: { text: 'héllo 報告 🙂' } })
    for (const end of ['\n', '\r', '\r\n']) {
      const lines = [
        ': a comment',
        'retry: 1234',
        'id: 7/é',
        'data',
        '',
        ':',
        'event: message',
        'id: 8',
        'unknown: field',
        'data:{"jsonrpc":"2.0",',
        'data: "method":"notifications/message","params":{"n":12345678901234567890,"n":1}}',
        '',
        '',
        'retry: 5',
        `data:  ${answer}`,
        '',
        '',
      ]
      const sent = Buffer.from(lines.join(end))
      const name = tool(async (_request, response) => {
        beginStream(response)
        for (let at = 0; at < sent.length; at += 3) {
          response.write(sent.subarray(at, at + 3))
          if (at % 30 === 0) await delay(1)
        }
        response.end()
      })
      const stream = await raw.stream(callOf(raw, name))
      t.equal(await stream.ended, 'end')
      t.equal(stream.headers['content-type'], 'text/event-stream')
      t.equal(
        stream.bytes().toString('latin1').replace(OPENING_COMMENT, ''),
        sent.toString('latin1'),
        `line end ${JSON.stringify(end)}`,
      )
    }
  },
)

t.test('JSON passes byte for byte in both directions when no adapter is concerned', async (t) => {
  const odd =
    '{ "jsonrpc":"2.0", "id":12345678, "x-unknown":{"b":1,"b":2}, "result":{"big":12345678901234567890.10,"é":"\\u00e9","a":1,"a":2} }\n'
  const name = tool((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json; charset=utf-8' }).end(odd)
  })
  const body = `{"jsonrpc" :"2.0","id":12345678,"unknown":[1.0,1e400],"method":"tools/call",\r\n"params":{"name":"${name}","arguments":{"n":98765432109876543210,"n":1,"text":"\\ud83d\\ude42 報"},"_meta":{"progressToken":7,"vendor/x":null}}}`
  const answer = await raw.post(body)
  t.equal(answer.status, 200)
  t.equal(answer.body, odd)
  t.equal(answer.headers['content-type'], 'application/json; charset=utf-8')
  t.equal(upstream.requests(`tools/call ${name}`)[0]?.body, body)
})

t.test('other content types stream as they arrive', async (t) => {
  const steps: (() => void)[] = []
  const name = tool(async (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/x-ndjson' })
    for (let n = 0; n < 3; n++) {
      response.write(`{"n":${n}}\n`)
      await new Promise<void>((resolve) => steps.push(resolve))
    }
    response.end('last')
  })
  const stream = await raw.stream(callOf(raw, name))
  for (let n = 0; n < 3; n++) {
    await stream.until(`{"n":${n}}\n`)
    steps.shift()?.()
  }
  t.equal(await stream.ended, 'end')
  t.equal(stream.text(), '{"n":0}\n{"n":1}\n{"n":2}\nlast')
})

t.test('events reach the client one by one, as the upstream sends them', async (t) => {
  const steps: (() => void)[] = []
  const name = tool(async (request, response) => {
    beginStream(response)
    for (let n = 0; n < 3; n++) {
      response.write(event({ jsonrpc: '2.0', method: 'notifications/progress', params: { n } }))
      await new Promise<void>((resolve) => steps.push(resolve))
    }
    response.end(event({ jsonrpc: '2.0', id: idOf(request), result: { done: true } }))
  })
  const stream = await raw.stream(callOf(raw, name))
  t.equal(stream.status, 200, 'the head does not wait for the answer')
  for (let n = 0; n < 3; n++) {
    await stream.until(`{"n":${n}}`)
    t.notMatch(stream.text(), 'done')
    steps.shift()?.()
  }
  await stream.until('done')
  t.equal(await stream.ended, 'end')
})

t.test('only allow-listed headers reach the upstream', async (t) => {
  const name = tool((request) => sendResult(request, {}))
  await raw.post(callOf(raw, name), {
    authorization: 'Basic b2Y6dGhlLWNsaWVudA==',
    cookie: 'a=b',
    forwarded: 'for=1.2.3.4',
    'x-forwarded-for': '1.2.3.4',
    'x-forwarded-host': 'evil.example',
    'x-real-ip': '1.2.3.4',
    'proxy-authorization': 'Basic eDp5',
    te: 'trailers',
    'accept-language': 'de',
    'user-agent': 'wire',
    origin: 'http://127.0.0.1',
    referer: 'http://127.0.0.1/x',
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    tracestate: 'a=1',
    baggage: 'k=v',
    'mcp-param-region': 'eu',
    'mcp-future': '1',
    'x-wanted': 'yes',
    'x-both': 'client',
  })
  const [seen] = upstream.requests(`tools/call ${name}`)
  t.ok(seen)
  const { host, connection, 'content-length': _length, ...headers } = seen?.headers ?? {}
  t.equal(host, `127.0.0.1:${upstream.port}`)
  t.ok(connection === undefined || connection === 'keep-alive')
  t.same(headers, {
    accept: 'application/json, text/event-stream',
    'content-type': 'application/json',
    'mcp-session-id': seen?.headers['mcp-session-id'],
    'mcp-protocol-version': '2025-06-18',
    'mcp-param-region': 'eu',
    'mcp-future': '1',
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    tracestate: 'a=1',
    baggage: 'k=v',
    'x-wanted': 'yes',
    'x-both': 'client',
    'x-static': 'from-config',
  })
  t.match(seen?.headers['mcp-session-id'], /^up-\d+$/, 'the session id is the upstream’s own')

  await raw.get({ 'last-event-id': 'e-17', cookie: 'a=b' })
  const get = upstream.requests('GET').at(-1)
  t.equal(get?.headers['last-event-id'], 'e-17')
  t.equal(get?.headers.cookie, undefined)
  t.equal(get?.headers['x-static'], 'from-config')
})

t.test('only allow-listed headers of an answer reach the client', async (t) => {
  const name = tool((request, response) => {
    const headers = {
      'set-cookie': 'secret=1',
      server: 'internal/1.0',
      'x-powered-by': 'x',
      'www-authenticate': 'Bearer resource_metadata="http://internal/"',
      'access-control-allow-origin': '*',
      'mcp-session-id': 'up-1',
      'mcp-something': 'kept',
      'cache-control': 'no-store',
      'retry-after': '7',
      vary: 'accept',
    }
    sendJson(response, { jsonrpc: '2.0', id: idOf(request), result: {} }, headers)
  })
  const { headers } = await raw.post(callOf(raw, name))
  for (const gone of [
    'set-cookie',
    'server',
    'x-powered-by',
    'www-authenticate',
    'access-control-allow-origin',
    'mcp-session-id',
  ])
    t.equal(headers[gone], undefined, gone)
  t.match(headers, {
    'mcp-something': 'kept',
    'cache-control': 'no-store',
    'retry-after': '7',
    vary: 'accept',
  })
})

t.test('header values that HTTP allows but few send do no harm', async (t) => {
  const name = tool((request) => sendResult(request, {}))
  const answer = await raw.post(callOf(raw, name), { 'mcp-odd': 'caf\u00e9', 'mcp-empty': '' })
  t.equal(answer.status, 200, answer.body)
  const again = await raw.post(callOf(raw, name))
  t.equal(again.status, 200)
})

t.test('a request without, with a malformed or with a foreign session id is told so', async (t) => {
  const url = `${replica.url}/mcp/raw`
  const message = JSON.stringify({ jsonrpc: '2.0', id: 'q', method: 'ping' })
  const missing = await send(url, { headers: { ...POST_HEADERS, ...AUTH }, body: message })
  t.equal(missing.status, 400)
  t.match(missing.json(), { id: 'q', error: { code: -32600 } })
  const ids = [
    'x',
    `${raw.id}x`,
    '../../etc/passwd',
    'A'.repeat(32),
    raw.id.toUpperCase(),
    plain.id,
  ]
  for (const id of ids) {
    const headers = { ...POST_HEADERS, ...AUTH, 'mcp-session-id': id }
    const unknown = await send(url, { headers, body: message })
    t.equal(unknown.status, 404, id)
    t.match(unknown.json(), { id: 'q', error: { code: -32001 } })
    const get = await send(url, {
      method: 'GET',
      headers: { ...AUTH, accept: 'text/event-stream', 'mcp-session-id': id },
    })
    t.equal(get.status, 404)
    const gone = await send(url, { method: 'DELETE', headers: { ...AUTH, 'mcp-session-id': id } })
    t.equal(gone.status, 404)
  }
  for (const method of ['GET', 'DELETE']) {
    const answer = await send(url, { method, headers: { ...AUTH, accept: 'text/event-stream' } })
    t.equal(answer.status, 400, method)
  }
})

t.test('old clients send no revision header, and none is made up for them', async (t) => {
  const session = await WireSession.open(`${replica.url}/mcp/raw`, {
    version: '2025-03-26',
    headers: AUTH,
  })
  const name = tool((request) => sendResult(request, { ok: true }))
  t.match((await session.call(name)).json(), { result: { ok: true } })
  const [seen] = upstream.requests(`tools/call ${name}`)
  t.equal(seen?.headers['mcp-protocol-version'], undefined)
  await session.delete()
})

t.test(
  'batches of revision 2025-03-26 pass as they are; initialize is refused in one',
  async (t) => {
    const url = `${replica.url}/mcp/raw`
    const session = await WireSession.open(url, { version: '2025-03-26', headers: AUTH })
    upstream.scripts.set('batch', (_request, response) => {
      response
        .writeHead(200, { 'content-type': 'application/json' })
        .end('[ {"jsonrpc":"2.0","id":2,"result":{"n":1.0}},{"jsonrpc":"2.0","id":1,"result":{}}]')
    })
    const body =
      '[{"jsonrpc":"2.0","id":1,"method":"ping"} ,{"jsonrpc":"2.0","id":2,"method":"ping","x":1.0},{"jsonrpc":"2.0","method":"notifications/x"}]'
    const answer = await session.post(body)
    t.equal(
      answer.body,
      '[ {"jsonrpc":"2.0","id":2,"result":{"n":1.0}},{"jsonrpc":"2.0","id":1,"result":{}}]',
    )
    t.equal(upstream.requests('batch')[0]?.body, body)

    upstream.scripts.set('batch', (_request, response) => {
      beginStream(response)
      response.write(event({ jsonrpc: '2.0', id: 2, result: {} }))
      response.end(event({ jsonrpc: '2.0', id: 1, result: {} }))
    })
    const streamed = await session.post(body)
    t.same(
      messagesIn(streamed.body).map(({ id }) => id),
      [2, 1],
    )

    upstream.scripts.set('batch', (_request, response) => void response.writeHead(202).end())
    const notified = await session.post('[{"jsonrpc":"2.0","method":"notifications/x"}]')
    t.equal(notified.status, 202)
    t.equal(notified.body, '')

    const before = upstream.received.length
    const refusals: readonly [body: string, code: number][] = [
      ['[]', -32600],
      [
        '[{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}},{"jsonrpc":"2.0","id":2,"method":"ping"}]',
        -32600,
      ],
      ['[{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}]', -32600],
      ['[1]', -32600],
      [
        '[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":1,"method":"ping"}]',
        -32600,
      ],
      ['{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600],
      ['{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600],
      ['{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600],
      ['{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}', -32600],
      ['{"jsonrpc":"2.0","id":1,"method":', -32700],
      ['', -32700],
    ]
    for (const [text, code] of refusals) {
      const refused = await session.post(text)
      t.equal(refused.status, 400, text)
      t.match(refused.json(), { error: { code } }, text)
    }
    t.equal(upstream.received.length, before, 'the upstream saw none of them')
    upstream.scripts.delete('batch')
    await session.delete()
  },
)

t.test('an upstream without sessions or a standalone stream works like any other', async (t) => {
  stateless.scripts.set('tools/call any', (request) => sendResult(request, { ok: true }))
  t.match((await plain.call('any')).json(), { result: { ok: true } })
  t.equal(stateless.requests('tools/call any')[0]?.headers['mcp-session-id'], undefined)
  t.equal((await plain.get()).status, 405)
  for (const status of [404, 400, 501]) {
    stateless.scripts.set('GET', (_request, response) => void response.writeHead(status).end())
    t.equal((await plain.get()).status, status === 404 ? 405 : status, 'the session is not unknown')
  }
  stateless.scripts.delete('GET')
})

t.test('the adapter’s own token never went upstream', async (t) => {
  const seen = [...upstream.received, ...stateless.received]
  t.ok(seen.length > 20)
  t.notOk(seen.some((request) => JSON.stringify(request.headers).includes(TOKEN)))
  const refused = await send(raw.url, {
    headers: { ...POST_HEADERS, 'mcp-session-id': raw.id },
    body: '{"jsonrpc":"2.0","id":1,"method":"ping"}',
  })
  t.equal(refused.status, 401)
})
