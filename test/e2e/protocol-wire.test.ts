// The relay at byte level: what passes unchanged, which headers cross, how failures of the upstream look, and that nothing is left behind.
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { gunzipSync, gzipSync } from 'node:zlib'

import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
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
import {
  answerIn,
  initialize,
  messagesIn,
  open,
  POST_HEADERS,
  send,
  WireSession,
} from '../support/wire.ts'
import type { WireStream } from '../support/wire.ts'

const TOKEN = 'adapter-token-of-this-test'
const AUTH = { 'x-mcp-adapter-auth-token': TOKEN }
const MIB = 1024 * 1024

/** What the listener puts before an event stream, because it can't send a head alone. */
const OPENING_COMMENT = ':\n\n'

/** A port where nobody listens. */
const closedPort = await new Promise<number>((resolve) => {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const address = server.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    server.close(() => resolve(port))
  })
})

/** Speaks no HTTP. */
const babbler = createServer((socket) => {
  socket.on('error', () => {})
  socket.once('data', () => socket.end('hello, this is not HTTP\r\n\r\n'))
})
await new Promise<void>((resolve) => babbler.listen(0, '127.0.0.1', resolve))
const babblerAddress = babbler.address()
const babblerPort =
  typeof babblerAddress === 'object' && babblerAddress !== null ? babblerAddress.port : 0

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
      {
        id: 'quick',
        mount_path: '/mcp/quick',
        upstream: { url: upstream.url },
        tool_defaults: { tool_call_timeout_seconds: 1 },
      },
      {
        id: 'closed',
        mount_path: '/mcp/closed',
        upstream: { url: `http://127.0.0.1:${closedPort}/mcp` },
      },
      {
        id: 'babbler',
        mount_path: '/mcp/babbler',
        upstream: { url: `http://127.0.0.1:${babblerPort}/mcp` },
      },
    ],
  },
})
t.teardown(async () => {
  await replica.stop()
  await upstream.stop()
  await stateless.stop()
  babbler.close()
})

const raw = await WireSession.open(`${replica.url}/mcp/raw`, { headers: AUTH })
const quick = await WireSession.open(`${replica.url}/mcp/quick`, { headers: AUTH })
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

async function rssBytes(): Promise<number> {
  const status = await readFile(`/proc/${replica.pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024
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
        stream.bytes().toString('latin1'),
        OPENING_COMMENT + sent.toString('latin1'),
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

t.test('other content types stream as they arrive, and a content encoding is kept', async (t) => {
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

  const zipped = gzipSync('{"jsonrpc":"2.0","id":1,"result":{}}')
  const zips = tool((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip' })
    response.end(zipped)
  })
  const compressed = await raw.stream(callOf(raw, zips))
  await compressed.ended
  t.equal(compressed.headers['content-encoding'], 'gzip')
  t.equal(gunzipSync(compressed.bytes()).toString(), '{"jsonrpc":"2.0","id":1,"result":{}}')
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
    authorization: 'Bearer of-the-client',
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

t.test(
  'an upstream that can not be reached or speaks no HTTP is a 502 with the request’s id',
  async (t) => {
    for (const name of ['closed', 'babbler']) {
      const answer = await initialize(`${replica.url}/mcp/${name}`, '2025-06-18', AUTH)
      t.equal(answer.status, 502, name)
      t.match(answer.json(), {
        jsonrpc: '2.0',
        id: 'init',
        error: { code: 1502, message: /upstream/, data: { retryable: name === 'closed' } },
      })
    }
  },
)

t.test('an upstream’s own HTTP errors are relayed with their bodies', async (t) => {
  for (const status of [400, 401, 403, 429, 500, 503]) {
    const name = tool((_request, response) => {
      response
        .writeHead(status, { 'content-type': 'text/plain', 'retry-after': '3' })
        .end(`no: ${status}`)
    })
    const answer = await raw.call(name)
    t.equal(answer.status, status)
    t.equal(answer.body, `no: ${status}`)
    t.equal(answer.headers['retry-after'], '3')
  }
})

t.test('an answer that breaks off is seen as such', async (t) => {
  const json = tool((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' })
    response.write('{"jsonrpc":"2.0",', () => response.destroy())
  })
  const half = await raw.stream(callOf(raw, json))
  t.equal(await half.ended, 'cut', 'half a JSON answer does not end properly')

  for (const partial of ['', 'data: {"jsonrpc":"2.0","met', 'event: message\r']) {
    const name = tool((_request, response) => {
      beginStream(response)
      response.write(event({ jsonrpc: '2.0', method: 'notifications/progress' }) + partial, () =>
        response.destroy(),
      )
    })
    const message = callOf(raw, name)
    const stream = await raw.stream(message)
    t.equal(await stream.ended, 'end')
    const last = stream
      .text()
      .split('\n\n')
      .findLast((block) => block !== '')
    t.match(messagesIn(`${last}\n\n`)[0], { id: message.id, error: { code: 1502 } }, partial)
  }

  const resumable = tool((_request, response) => {
    beginStream(response)
    response.write('id: 1\ndata: \n\n', () => response.destroy())
  })
  const stream = await raw.stream(callOf(raw, resumable))
  t.equal(await stream.ended, 'cut', 'a client that can resume gets to see the cut')
  t.notMatch(stream.text(), 'error')
})

t.test(
  'a tool that says nothing for too long is cancelled upstream and answered with an error',
  async (t) => {
    const silent = tool(() => {})
    const message = callOf(quick, silent)
    const answer = await quick.post(message)
    t.equal(answer.status, 504)
    t.match(answer.json(), { id: message.id, error: { code: 1504, message: /1 s/ } })
    await eventually('the upstream is told', () =>
      upstream.requests('notifications/cancelled').some((request) => {
        const { params } = request.json as { params: { requestId: unknown } } // requests() chose it by its method
        return params.requestId === message.id
      }),
    )
    t.ok(upstream.requests(`tools/call ${silent}`)[0]?.isCut, 'and its connection is closed')

    const stalls = tool(async (request, response) => {
      beginStream(response)
      for (let n = 0; n < 4; n++) {
        response.write(event({ jsonrpc: '2.0', method: 'notifications/progress', params: { n } }))
        await delay(400)
      }
      // and then nothing
      idOf(request)
    })
    const second = callOf(quick, stalls)
    const stream = await quick.stream(second)
    t.equal(await stream.ended, 'end')
    t.match(messagesIn(stream.text()).at(-1), { id: second.id, error: { code: 1504 } })
    t.match(stream.text(), '{"n":3}', 'progress had kept it going')

    const asks = tool(async (request, response) => {
      beginStream(response)
      response.write(event({ jsonrpc: '2.0', id: 1, method: 'elicitation/create', params: {} }))
      await delay(1_500)
      response.end(event({ jsonrpc: '2.0', id: idOf(request), result: { waited: true } }))
    })
    t.match(
      answerIn(await quick.call(asks)),
      { result: { waited: true } },
      'a person may take longer',
    )
  },
)

t.test(
  'a client that goes away closes the upstream’s connection, without a cancel of our own',
  async (t) => {
    const before = upstream.requests('notifications/cancelled').length
    const started: (() => void)[] = []
    const silent = tool((_request, response) => {
      beginStream(response)
      response.write(event({ jsonrpc: '2.0', method: 'notifications/progress' }))
      started.shift()?.()
    })
    const stream = await raw.stream(callOf(raw, silent))
    await stream.until('progress')
    stream.close()
    await eventually(
      'the connection is closed',
      () => upstream.requests(`tools/call ${silent}`)[0]?.isCut === true,
    )
    t.equal(upstream.requests('notifications/cancelled').length, before)
    const cancel = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 5 } }
    t.equal((await raw.post(cancel)).status, 202)
    t.same(
      upstream.requests('notifications/cancelled').at(-1)?.json,
      cancel,
      'the client’s own is relayed',
    )
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

t.test('a slow reader of a large stream costs no memory and holds up nobody else', async (t) => {
  const total = 200 * MIB
  const chunk = Buffer.alloc(64 * 1024, `data: ${'x'.repeat(120)}\n`)
  let sent = 0
  const flood = tool(async (_request, response) => {
    beginStream(response)
    while (sent < total && !response.destroyed) {
      sent += chunk.length
      if (!response.write(chunk))
        await new Promise<void>((resolve) => {
          response.once('drain', resolve)
          response.once('close', resolve)
        })
    }
    response.end()
  })
  const other = await WireSession.open(`${replica.url}/mcp/raw`, { headers: AUTH })
  const pong = tool((request) => sendResult(request, {}))
  await other.call(pong)
  const before = await rssBytes()
  const stream = await raw.stream(callOf(raw, flood))
  stream.pause()
  let last = -1
  await eventually('the upstream is held', async () => {
    const isHeld = sent === last
    last = sent
    await delay(150)
    return isHeld && sent > 0
  })
  t.ok(sent < 64 * MIB, `${sent / MIB} MiB were taken in`)
  const startedAt = Date.now()
  for (let n = 0; n < 50; n++) await other.call(pong)
  t.ok(Date.now() - startedAt < 5_000, 'other calls go on')
  let peak = (await rssBytes()) - before
  stream.resume()
  let size = 0
  const draining = stream.ended
  const watch = setInterval(() => {
    void rssBytes().then((now) => {
      peak = Math.max(peak, now - before)
    })
  }, 50)
  await within('the rest', draining, 30_000)
  clearInterval(watch)
  size = stream.bytes().length
  t.equal(size, sent + OPENING_COMMENT.length, 'every byte arrived')
  t.ok(peak < 64 * MIB, `memory grew by ${Math.round(peak / MIB)} MiB`)
})

t.test('nothing is left of thousands of calls, finished, failed or given up', async (t) => {
  const fine = tool((request) => sendResult(request, { text: 'x'.repeat(1_000) }))
  const streams = tool((request, response) => {
    beginStream(response)
    response.end(event({ jsonrpc: '2.0', id: idOf(request), result: {} }))
  })
  const fails = tool((_request, response) => void response.destroy())
  const hangs = tool((_request, response) => {
    beginStream(response)
    response.write(': on\n\n')
  })
  const giveUp = async (): Promise<void> => {
    const stream: WireStream = await raw.stream(callOf(raw, hangs))
    stream.close()
  }
  const round = async (): Promise<void> => {
    const work: Promise<unknown>[] = []
    for (let n = 0; n < 10; n++) {
      work.push(
        raw.call(fine),
        raw.call(streams),
        raw.call(fails),
        giveUp(),
        open(raw.url, { headers: raw.headers, body: '{' }),
      )
    }
    await Promise.all(work)
  }
  for (let n = 0; n < 8; n++) await round()
  const settled = await rssBytes()
  for (let n = 0; n < 32; n++) await round()
  await eventually('upstream connections are idle or gone', async () => {
    const open = upstream.requests(`tools/call ${hangs}`).filter((request) => !request.isCut)
    return open.length === 0 && (await upstream.connections()) < 80
  })
  const grown = (await rssBytes()) - settled
  t.ok(grown < 32 * MIB, `memory grew by ${Math.round(grown / MIB)} MiB`)
  const health = await send(`${replica.url}/healthz`, { method: 'GET' })
  t.equal(health.status, 200)
  await eventually('idle connections close', async () => (await upstream.connections()) < 5, 15_000)
})

t.test('the adapter’s own token never went upstream', async (t) => {
  const seen = [...upstream.received, ...stateless.received]
  t.ok(seen.length > 1_000)
  t.notOk(seen.some((request) => JSON.stringify(request.headers).includes(TOKEN)))
  const refused = await send(raw.url, {
    headers: { ...POST_HEADERS, 'mcp-session-id': raw.id },
    body: '{"jsonrpc":"2.0","id":1,"method":"ping"}',
  })
  t.equal(refused.status, 401)
})
