// The HTTP+SSE transport towards an upstream: opening, messages in both directions, and everything that can go wrong with either.

import t, { type Test } from 'tap'

import { AdapterError } from '../../src/shared/errors.ts'
import type { MessageConnection } from '../../src/worker/upstream/bound/message-connection.ts'
import { clientOptions } from '../../src/worker/upstream/client-options.ts'
import { SseTransport } from '../../src/worker/upstream/bound/sse-transport.ts'
import { load } from '../shared/config-loading.ts'
import { eventually, within } from '../support/eventually.ts'
import { beginSse, startScriptedSse } from '../support/upstreams/scripted-sse.ts'
import type { ScriptedSse, SseScripts } from '../support/upstreams/scripted-sse.ts'

/** What a connection told. */
class Heard {
  readonly messages: string[] = []
  readonly closings: AdapterError[] = []

  message(bytes: Uint8Array): void {
    this.messages.push(Buffer.from(bytes).toString('utf8'))
  }

  closed(error: AdapterError): void {
    this.closings.push(error)
  }
}

interface Rig {
  readonly upstream: ScriptedSse
  readonly transport: SseTransport
  readonly heard: Heard
  readonly open: (headers?: readonly string[], signal?: AbortSignal) => Promise<MessageConnection>
}

/** An upstream and a transport to it, which end with the test and must have left nothing. */
async function rig(
  t: Test,
  scripts: SseScripts = {},
  options: { upstream?: object; maxEventBytes?: number; waitMs?: number } = {},
): Promise<Rig> {
  const upstream = await startScriptedSse(scripts)
  const settings = { url: upstream.url, transport: 'sse', ...options.upstream }
  const [server] = load(
    `servers: [{id: a, mount_path: /a, upstream: ${JSON.stringify(settings)}}]`,
  ).servers
  if (server === undefined) throw new Error('a configuration has its server')
  const transport = new SseTransport({
    client: clientOptions(server.upstream, () => {}),
    maxEventBytes: options.maxEventBytes ?? 1_048_576,
    endpointTimeoutMs: options.waitMs ?? 10_000,
    postTimeoutMs: options.waitMs ?? 10_000,
  })
  const heard = new Heard()
  t.teardown(async () => {
    await transport.close()
    if (transport.size !== 0) throw new Error('a connection was left behind')
    await eventually('no connection is left', async () => (await upstream.connections()) === 0)
    await upstream.stop()
  })
  return {
    upstream,
    transport,
    heard,
    open: (headers = [], signal = new AbortController().signal) =>
      within('the connection opens or fails', transport.open(heard, headers, signal)),
  }
}

function bytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text))
}

async function failure(work: Promise<unknown>): Promise<AdapterError> {
  try {
    await work
  } catch (error) {
    if (error instanceof AdapterError) return error
    throw error
  }
  throw new Error('it did not fail')
}

const MESSAGE = '{"jsonrpc":"2.0","id":1,"result":{"text":"héllo 報告"}}'

t.test('messages go both ways, with the headers of the client and of the operator', async (t) => {
  const { upstream, heard, open } = await rig(
    t,
    {},
    { upstream: { static_headers: { 'X-Static': 'operator', 'X-Both': 'operator' } } },
  )
  const connection = await open([
    'accept',
    'application/json',
    'x-both',
    'client',
    'mcp-session-id',
    'ours',
    'last-event-id',
    '7',
  ])
  const [stream] = upstream.streams
  t.match(stream?.headers, { accept: 'text/event-stream', 'x-static': 'operator' })
  t.equal(stream?.headers['x-both'], 'client')
  t.equal(stream?.headers['mcp-session-id'], undefined)
  t.equal(stream?.headers['last-event-id'], undefined)

  await connection.send(bytes(MESSAGE), [
    'content-type',
    'text/plain',
    'mcp-protocol-version',
    '2025-06-18',
  ])
  t.match(upstream.posts, [
    {
      target: '/messages?session=1',
      body: MESSAGE,
      headers: {
        'content-type': 'application/json',
        'mcp-protocol-version': '2025-06-18',
        'x-static': 'operator',
      },
    },
  ])

  stream?.response.write(`event: message\ndata: ${MESSAGE}\n\ndata: {"a":1}\r\n\r\n`)
  stream?.response.write(': comment\n\nevent: ping\ndata: x\n\nevent: endpoint\ndata: /other\n\n')
  stream?.response.write('id: 1\nevent: message\ndata: {\ndata:  "b": 2}\n\nevent: message\n\n')
  await eventually('three messages have come', () => heard.messages.length === 3)
  t.same(heard.messages, [MESSAGE, '{"a":1}', '{\n "b": 2}'])

  await connection.send(bytes('{}'), [])
  t.equal(upstream.posts[1]?.target, '/messages?session=1', 'a later endpoint changes nothing')

  await connection.close()
  await eventually('the stream is closed', () => stream?.isClosed === true)
  t.same(heard.closings, [], 'who closes is not told')
  t.equal((await failure(connection.send(bytes('{}'), []))).code, 'ADAPTER_UPSTREAM_UNREACHABLE')
})

t.test('an endpoint may be any reference to the same origin', async (t) => {
  let reference = ''
  const { upstream, open } = await rig(t, {
    stream: (response) => response.write(beginSse(response, reference)),
  })
  const good: readonly (readonly [string, string])[] = [
    ['messages?id=a%20b', '/messages?id=a%20b'],
    ['./x/../y', '/y'],
    ['?only=query', '/sse?only=query'],
    [`http://127.0.0.1:${upstream.port}/abs#fragment`, '/abs'],
    [`//127.0.0.1:${upstream.port}/net`, '/net'],
    ['/é', '/%C3%A9'],
  ]
  for (const [text, target] of good) {
    reference = text
    const connection = await open()
    await connection.send(bytes('{}'), [])
    t.equal(upstream.posts.at(-1)?.target, target, text)
    await connection.close()
  }
})

t.test('an endpoint at another origin, or that is none, is refused', async (t) => {
  let reference = ''
  const { upstream, open, heard } = await rig(t, {
    stream: (response) => response.write(beginSse(response, reference)),
  })
  const bad = [
    'http://elsewhere.invalid/messages',
    `https://127.0.0.1:${upstream.port}/messages`,
    `http://127.0.0.1:${upstream.port + 1}/messages`,
    `http://localhost:${upstream.port}/messages`,
    '//elsewhere.invalid/messages',
    `http://user:pass@127.0.0.1:${upstream.port}/messages`,
    'javascript:alert(1)',
    'file:///etc/passwd',
    'http://',
    '',
    `/${'x'.repeat(9_000)}`,
  ]
  for (const text of bad) {
    reference = text
    const error = await failure(open())
    t.equal(error.code, 'ADAPTER_UPSTREAM_INVALID', text)
    t.match(error.message, /^the upstream server names an endpoint that can not be used: it /)
  }
  t.same(upstream.posts, [])
  t.same(heard.closings, [], 'what was never open is not closed')
})

t.test('what does not become a stream with an endpoint is told by its reason', async (t) => {
  const cases: readonly (readonly [string, NonNullable<SseScripts['stream']>, string])[] = [
    ['404', (response) => response.writeHead(404).end(), 'ADAPTER_UPSTREAM_INVALID'],
    ['401', (response) => response.writeHead(401).end(), 'ADAPTER_UPSTREAM_REFUSED'],
    [
      '403, with much to say',
      (response) => response.writeHead(403).write('x'.repeat(100_000)),
      'ADAPTER_UPSTREAM_REFUSED',
    ],
    ['429', (response) => response.writeHead(429).end(), 'ADAPTER_UPSTREAM_UNREACHABLE'],
    ['500', (response) => response.writeHead(500).end('x'), 'ADAPTER_UPSTREAM_UNREACHABLE'],
    [
      'another type',
      (response) => response.writeHead(200, { 'content-type': 'application/json' }).end('{}'),
      'ADAPTER_UPSTREAM_INVALID',
    ],
    [
      'an encoding',
      (response) =>
        response
          .writeHead(200, { 'content-type': 'text/event-stream', 'content-encoding': 'gzip' })
          .end(),
      'ADAPTER_UPSTREAM_INVALID',
    ],
    [
      'an end',
      (response) => response.writeHead(200, { 'content-type': 'text/event-stream' }).end(),
      'ADAPTER_UPSTREAM_UNREACHABLE',
    ],
    ['a cut', (response) => response.destroy(), 'ADAPTER_UPSTREAM_UNREACHABLE'],
    [
      'silence',
      (response) => response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders(),
      'ADAPTER_UPSTREAM_TIMEOUT',
    ],
    ['no head', () => {}, 'ADAPTER_UPSTREAM_TIMEOUT'],
    [
      'garbage',
      (response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        response.write('\0\n\nevent: message\ndata: {}\n\nendpoint\n\n')
      },
      'ADAPTER_UPSTREAM_TIMEOUT',
    ],
    [
      'an endless event',
      (response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        response.write(`data: ${'x'.repeat(200_000)}`)
      },
      'ADAPTER_UPSTREAM_INVALID',
    ],
  ]
  for (const [what, stream, code] of cases) {
    const { open, heard, transport } = await rig(
      t,
      { stream },
      { waitMs: 200, maxEventBytes: 100_000, upstream: { connect_timeout_seconds: 1 } },
    )
    t.equal((await failure(open())).code, code, what)
    t.equal(transport.size, 0, 'nothing is left behind')
    t.same(heard, { messages: [], closings: [] })
  }
})

t.test('opening can be given up at any time', async (t) => {
  const { open, transport, upstream } = await rig(t, { stream: () => {} })
  const giving = new AbortController()
  const opening = failure(open([], giving.signal))
  await eventually('the stream is asked for', () => upstream.streams.length === 1)
  giving.abort()
  t.equal((await opening).code, 'ADAPTER_UPSTREAM_UNREACHABLE')
  await eventually('the request is cut', () => upstream.streams[0]?.isClosed === true)
  t.equal(transport.size, 0)

  const why = new AdapterError('ADAPTER_STOPPING', 'stop')
  t.equal(await failure(open([], AbortSignal.abort(why))), why)
  t.equal(upstream.streams.length, 1, 'nothing was sent')

  const last = failure(open())
  await transport.close()
  t.ok(await last)
  t.equal((await failure(open())).code, 'ADAPTER_STOPPING')
})

t.test('a message that is not taken fails alone, and the connection goes on', async (t) => {
  let status = 500
  const { open, heard, upstream } = await rig(t, {
    post: (_request, response) => response.writeHead(status).end(status === 204 ? '' : 'words'),
  })
  const connection = await open()
  const statuses: readonly (readonly [number, string])[] = [
    [400, 'ADAPTER_UPSTREAM_INVALID'],
    [401, 'ADAPTER_UPSTREAM_REFUSED'],
    [404, 'ADAPTER_UPSTREAM_INVALID'],
    [302, 'ADAPTER_UPSTREAM_INVALID'],
    [429, 'ADAPTER_UPSTREAM_UNREACHABLE'],
    [500, 'ADAPTER_UPSTREAM_UNREACHABLE'],
  ]
  for (const [answered, code] of statuses) {
    status = answered
    const error = await failure(connection.send(bytes('{}'), []))
    t.equal(error.code, code)
    t.match(error.message, new RegExp(`^the upstream server answered .*${answered}$`))
  }
  for (const fine of [200, 202, 204]) {
    status = fine
    await connection.send(bytes('{}'), [])
  }
  upstream.streams[0]?.response.write('data: {"still":"here"}\n\n')
  await eventually('the stream goes on', () => heard.messages.length === 1)
  t.same(heard.closings, [])
})

t.test('a POST is bounded: no answer, a broken one, and one without end', async (t) => {
  const { open, heard, upstream } = await rig(
    t,
    {
      post: ({ body }, response) => {
        if (body === '"hang"') return
        if (body === '"cut"') response.destroy()
        else {
          response.writeHead(200)
          const timer = setInterval(() => response.write('x'.repeat(16_384)), 5)
          response.on('close', () => clearInterval(timer))
        }
      },
    },
    { waitMs: 200 },
  )
  const connection = await open()
  t.equal((await failure(connection.send(bytes('"hang"'), []))).code, 'ADAPTER_UPSTREAM_TIMEOUT')
  t.equal((await failure(connection.send(bytes('"cut"'), []))).code, 'ADAPTER_UPSTREAM_UNREACHABLE')
  await connection.send(bytes('"endless"'), [])
  await eventually('the endless answer is cut', async () => (await upstream.connections()) === 1)
  t.same(heard.closings, [])
})

t.test('the end of the stream ends the connection once, with what is under way', async (t) => {
  for (const how of ['end', 'cut', 'too large'] as const) {
    const { open, heard, transport, upstream } = await rig(
      t,
      { post: () => {} },
      { maxEventBytes: 100_000 },
    )
    const connection = await open()
    const sending = failure(connection.send(bytes('{}'), []))
    await eventually('the message is under way', () => upstream.posts.length === 1)
    const response = upstream.streams[0]?.response
    response?.write('data: {"last":1}\n\n')
    await eventually('the message has come', () => heard.messages.length === 1)
    if (how === 'end') response?.end()
    else if (how === 'cut') response?.destroy()
    else response?.write(`data: ${'x'.repeat(200_000)}\n\n`)
    await eventually('the connection is over', () => heard.closings.length > 0)
    t.equal(
      heard.closings[0]?.code,
      how === 'too large' ? 'ADAPTER_UPSTREAM_INVALID' : 'ADAPTER_UPSTREAM_UNREACHABLE',
      how,
    )
    t.equal(await sending, heard.closings[0], 'who waits for a POST hears the same')
    t.equal(transport.size, 0)
    await connection.close()
    connection.pause()
    connection.resume()
    t.equal(heard.closings.length, 1)
  }
})

t.test('a paused connection holds the upstream back, and loses nothing', async (t) => {
  const { open, heard, upstream } = await rig(t)
  const connection = await open()
  connection.pause()
  const response = upstream.streams[0]?.response
  const event = `data: "${'y'.repeat(100_000)}"\n\n`
  let sent = 0
  let accepted = true
  while (accepted && sent < 1_000) {
    accepted = response?.write(event) ?? false
    sent++
    if (!accepted) {
      const drained = new Promise<boolean>((resolve) => {
        response?.once('drain', () => resolve(true))
        setTimeout(() => resolve(false), 300)
      })
      accepted = await drained
    }
  }
  t.ok(sent < 1_000, 'the upstream was held back')
  t.ok(heard.messages.length <= 2, 'a bounded amount still came')
  connection.resume()
  await eventually('all has come', () => heard.messages.length === sent)
})

t.test('streams do not take the connections that messages need', async (t) => {
  const { open, upstream } = await rig(t, {}, { upstream: { max_connections: 1 } })
  const connections = await Promise.all([open(), open(), open()])
  await Promise.all(connections.map((connection) => connection.send(bytes('{}'), [])))
  t.equal(upstream.streams.length, 3)
  t.equal(upstream.posts.length, 3)
})
