// Requests to an upstream over real sockets: how they look, which connections they use, how they fail, and that nothing is left of them.

import { once } from 'node:events'
import { createServer } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

import * as fc from 'fast-check'
import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { CERTIFICATE, KEY } from './upstream-certificate.ts'
import {
  always,
  answerOf,
  ask,
  begin,
  clientOf,
  pair,
  post,
  startRawServer,
  Witness,
} from './upstream-fixture.ts'

const warnings: Error[] = []
process.on('warning', (warning) => warnings.push(warning))
t.teardown(() => {
  if (warnings.some((warning) => warning.name === 'MaxListenersExceededWarning'))
    throw new Error('listeners were left behind')
})

t.test('a request is sent as it was given', async (t) => {
  const { server, client } = await pair(t, always(answerOf('ok', ['X-A: 1', 'X-a: 2', 'Date: d'])))
  const answer = await ask(client, {
    headers: ['accept', 'text/plain', 'X-Odd', '', 'x-latin', 'caf\xe9', 'x-tab', 'a\tb'],
    body: Buffer.from('{"ä":1}'),
  })
  t.equal(
    server.requests[0]?.head,
    `POST /mcp HTTP/1.1\r\naccept: text/plain\r\nX-Odd: \r\nx-latin: caf\xe9\r\nx-tab: a\tb\r\nhost: 127.0.0.1:${server.port}\r\ncontent-length: 8\r\n`,
  )
  t.equal(server.requests[0]?.body.toString(), '{"ä":1}')
  t.same(answer.headers, ['x-a', '1', 'x-a', '2'])
  t.equal(answer.body.toString(), 'ok')
  t.equal(answer.heads, 1)
  t.equal(answer.ends, 1)

  await ask(client, { method: 'GET', body: null })
  await ask(client, { method: 'DELETE', body: null })
  await ask(client, { method: 'POST', body: null })
  await ask(client, { method: 'POST', body: new Uint8Array(0) })
  const heads = server.requests.slice(1).map(({ head }) => head)
  t.match(heads[0], /^GET \/mcp HTTP\/1\.1\r\nhost: [^\r]+\r\n$/)
  t.match(heads[1], /^DELETE \/mcp HTTP\/1\.1\r\nhost: [^\r]+\r\n$/)
  t.match(heads[2], /\r\ncontent-length: 0\r\n$/)
  t.match(heads[3], /\r\ncontent-length: 0\r\n$/)
})

t.test(
  'a host of the operator’s replaces the URL’s, and `connection: close` is meant',
  async (t) => {
    const { server, client } = await pair(t, always(answerOf('ok')))
    await ask(client, { headers: ['Host', 'other.test', 'Connection', 'close'] })
    const head = server.requests[0]?.head ?? ''
    t.match(head, /\r\nHost: other\.test\r\n/)
    t.notMatch(head, /127\.0\.0\.1/)
    t.match(head, /\r\nconnection: close\r\n/)
    t.equal(client.size.connections, 0)
    await ask(client, { headers: ['connection', 'keep-alive'] })
    t.notMatch(server.requests[1]?.head, /connection/)
    t.equal(client.size.idle, 1)
  },
)

t.test('large bodies arrive whole, both ways', async (t) => {
  const { server, client } = await pair(t, (socket, { body }) => {
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`)
    socket.write(body)
  })
  for (const size of [65_535, 65_536, 65_537, 9_000_001]) {
    const body = Buffer.alloc(size, 'abcdefg')
    const answer = await ask(client, { body })
    t.ok(answer.body.equals(body), `${size} bytes`)
  }
  t.equal(server.sockets.length, 1)
})

t.test('headers that could become something else are never sent', async (t) => {
  const { server, client } = await pair(t, always(answerOf('ok')))
  const bad: readonly (readonly [string, string])[] = [
    ['x-a', '1\r\nx-b: 2'],
    ['x-a', '1\n'],
    ['x-a', '1\r'],
    ['x-a', 'a\0b'],
    ['x-a', 'a\x7fb'],
    ['x-a', '\u0100'],
    ['x-a', '\u010d\u010a'],
    ['x-a\r\nx-b', '1'],
    ['x a', '1'],
    ['x:a', '1'],
    ['', '1'],
    ['x\u010d', '1'],
    ['Content-Length', '5'],
    ['Transfer-Encoding', 'chunked'],
    ['upgrade', 'websocket'],
    ['expect', '100-continue'],
  ]
  for (const header of bad) {
    let called = false
    const witness = new Witness({
      error: () => {
        called = true
      },
    })
    client.call(post({ headers: ['accept', '*/*', ...header] }), witness)
    t.notOk(called, 'not before the call returned')
    await within('the error', witness.over)
    t.equal(witness.code, 'ADAPTER_HEADER_INVALID', JSON.stringify(header))
    if (header[1].length > 1) t.notMatch(witness.errors[0]?.message, header[1])
  }
  const { call, witness } = begin(client, { headers: ['x-a', '\n'] })
  call.pause()
  call.resume()
  call.abort()
  await ask(client)
  t.equal(witness.errors.length, 0)
  t.equal(server.requests.length, 1)

  // Anything that is sent is read back as one request with exactly these headers.
  await fc.assert(
    fc.asyncProperty(
      fc.string({ unit: 'binary', maxLength: 12 }),
      fc.string({ unit: 'binary', maxLength: 12 }),
      async (name, value) => {
        const before = server.requests.length
        const answer = await ask(client, { headers: [name, value] })
        if (answer.code === 'ADAPTER_HEADER_INVALID') return server.requests.length === before
        const { head = '' } = server.requests[before] ?? {}
        return server.requests.length === before + 1 && head.split('\r\n').length <= 5
      },
    ),
    { numRuns: 200 },
  )
})

t.test('one connection carries one request after the other, the last used first', async (t) => {
  const { server, client } = await pair(t, (socket, _request, number) => {
    const bytes = answerOf(String(number))
    // In pieces, and chunked every other time.
    if (number % 2 === 0) socket.write(bytes)
    else {
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
      setImmediate(() => socket.write(`${String(number).length}\r\n${number}\r\n0\r\n\r\n`))
    }
  })
  for (let i = 1; i < 10; i++) t.equal((await ask(client)).body.toString(), String(i))
  t.equal(server.sockets.length, 1)
  const both = [begin(client), begin(client)]
  await Promise.all(both.map(({ witness }) => within('the answer', witness.over)))
  t.equal(server.sockets.length, 2)
  t.same(client.size, { connections: 2, idle: 2, waiting: 0 })
  const [first, second] = server.sockets.map((socket) => socket.bytesRead)
  for (let i = 0; i < 5; i++) await ask(client)
  const [firstNow, secondNow] = server.sockets.map((socket) => socket.bytesRead)
  t.ok((first === firstNow) !== (second === secondNow), 'only one of them')
})

t.test('a connection is not used again after an answer that ends with it', async (t) => {
  const endings = [
    'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok',
    'HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok',
    'HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok',
    'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n',
  ]
  const { server, client } = await pair(t, (socket, _request, number) => {
    const ending = endings[number - 1]
    if (ending === undefined) socket.end('HTTP/1.1 200 OK\r\n\r\nok')
    else socket.write(ending)
  })
  for (let i = 0; i <= endings.length; i++) {
    const answer = await ask(client)
    t.equal(answer.body.toString(), 'ok')
    t.equal(answer.ends, 1)
    t.same(client.size, { connections: 0, idle: 0, waiting: 0 })
  }
  t.equal(server.sockets.length, endings.length + 1)
  await eventually('all are closed', () => server.open() === 0)
})

t.test(
  'a request that is answered before it is sent costs the connection, not the answer',
  async (t) => {
    const server = createServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', () => {
        socket.pause()
        socket.write(answerOf('too large').replace('200 OK', '413 Too Large'))
      })
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    const client = clientOf(typeof address === 'object' && address !== null ? address.port : 0)
    t.teardown(async () => {
      await client.close()
      server.close()
    })
    const answer = await ask(client, { body: Buffer.alloc(30_000_000) })
    t.equal(answer.status, 413)
    t.equal(answer.body.toString(), 'too large')
    t.equal(answer.ends, 1)
    t.equal(client.size.connections, 0)
  },
)

t.test(
  'idle connections are closed after four seconds, or sooner when the server says so',
  async (t) => {
    const { server, client } = await pair(t, (socket, { head }) =>
      socket.write(
        answerOf(
          'ok',
          head.includes('x-short') ? ['Keep-Alive: timeout=2'] : ['Keep-Alive: timeout=60'],
        ),
      ),
    )
    await Promise.all([ask(client), ask(client, { headers: ['x-short', '1'] })])
    t.equal(server.open(), 2)
    const start = Date.now()
    await eventually('the short one is closed', () => server.open() === 1)
    await eventually('the other is closed', () => server.open() === 0)
    t.ok(Date.now() - start > 3_500, 'in its own time')
    t.same(client.size, { connections: 0, idle: 0, waiting: 0 })
  },
)

t.test('bytes that nobody asked for close an idle connection', async (t) => {
  const { server, client } = await pair(t, always(answerOf('ok')))
  await ask(client)
  server.sockets[0]?.write(answerOf('poison'))
  await eventually('the connection is dropped', () => client.size.connections === 0)
  t.equal((await ask(client)).body.toString(), 'ok')
  t.equal(server.sockets.length, 2)
})

t.test('connections are limited, calls wait in order, and too many are refused', async (t) => {
  const held: (() => void)[] = []
  const { server, client } = await pair(
    t,
    (socket, { body }) => held.push(() => socket.write(answerOf(body.toString()))),
    { maxConnections: 2 },
  )
  const order: string[] = []
  const calls = Array.from({ length: 2 + 1_024 }, (_, i) =>
    begin(
      client,
      { body: Buffer.from(String(i)) },
      { data: (chunk) => order.push(Buffer.from(chunk).toString()) },
    ),
  )
  t.same(client.size, { connections: 2, idle: 0, waiting: 1_024 })
  const refused = await ask(client)
  t.equal(refused.code, 'ADAPTER_OVERLOADED')
  calls[2]?.call.abort()
  t.equal(client.size.waiting, 1_023)
  await eventually('two are sent', () => held.length === 2)
  for (let i = 0; i < 6; i++) {
    await eventually('the next is sent', () => held.length > 0)
    held.shift()?.()
    await eventually('it is answered', () => order.length === i + 1)
  }
  t.same(order, ['0', '1', '3', '4', '5', '6'])
  t.equal(server.sockets.length, 2)
  // One that breaks gives its place to the next.
  server.sockets[0]?.destroy()
  await eventually('another takes its place', () => server.sockets.length === 3)
  t.equal(client.size.connections, 2)
  await client.close()
  await Promise.all(calls.filter((_, i) => i !== 2).map(({ witness }) => witness.over))
  t.equal(calls.at(-1)?.witness.code, 'ADAPTER_STOPPING')
  t.equal(calls[2]?.witness.errors.length, 0)
})

t.test('TLS: names are sent, certificates are checked unless that was switched off', async (t) => {
  const names: unknown[] = []
  const tls = createTlsServer({ key: KEY, cert: CERTIFICATE })
  tls.on('tlsClientError', () => {})
  tls.on('secureConnection', (socket) =>
    names.push('servername' in socket ? socket.servername : undefined),
  )
  const server = await startRawServer(
    (socket, { body }) => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`)
      socket.write(body)
    },
    tls,
    'secureConnection',
  )
  const url = new URL(`https://localhost:${server.port}/mcp`)
  const insecure = clientOf(server.port, { url, insecureTls: true })
  const checked = clientOf(server.port, { url })
  const named = clientOf(server.port, {
    url,
    insecureTls: true,
    staticHeaders: ['Host', 'other.test:1'],
  })
  const address = clientOf(server.port, {
    url: new URL(`https://127.0.0.1:${server.port}/`),
    insecureTls: true,
  })
  t.teardown(async () => {
    for (const client of [insecure, checked, named, address]) await client.close()
    await server.stop()
  })
  const refused = await ask(checked)
  t.equal(refused.code, 'ADAPTER_UPSTREAM_UNREACHABLE')
  t.match(refused.errors[0]?.message, /\(DEPTH_ZERO_SELF_SIGNED_CERT\)$/)
  t.equal(server.requests.length, 0)
  names.length = 0

  const large = Buffer.alloc(3_000_000, 'abc')
  t.equal((await ask(insecure)).body.toString(), 'hello')
  t.ok((await ask(insecure, { body: large })).body.equals(large))
  t.equal((await ask(insecure)).body.toString(), 'hello')
  t.same(names, ['localhost'], 'over one connection')
  await Promise.all([ask(insecure), ask(insecure), ask(insecure)])
  await ask(named)
  await ask(address)
  t.same(names.slice(-2), ['other.test', false])

  const { witness, call } = begin(insecure, { body: large }, { data: () => call.pause() })
  await eventually('it has begun', () => witness.bytes > 0)
  const drip = setInterval(() => call.resume(), 1)
  await within('the answer', witness.over)
  clearInterval(drip)
  t.equal(witness.bytes, large.length)
  // Paused before there is a connection: the handshake goes on.
  const fresh = clientOf(server.port, { url, insecureTls: true })
  const early = begin(fresh)
  early.call.pause()
  const before = server.requests.length
  await eventually('it is sent', () => server.requests.length > before)
  early.call.resume()
  await within('the answer', early.witness.over)
  await fresh.close()
})

t.test(
  'ten thousand requests, some of them broken or given up, leave nothing behind',
  async (t) => {
    setFlagsFromString('--expose-gc')
    const collect: unknown = runInNewContext('gc')
    const heap = (): number => {
      if (typeof collect === 'function') collect()
      return process.memoryUsage().heapUsed
    }
    const { server, client } = await pair(t, (socket, _request, number) => {
      if (number % 101 === 0) socket.destroy()
      else if (number % 103 === 0) socket.write('nonsense\r\n')
      else socket.write(answerOf('x'.repeat(200), ['X-Number: 1']))
    })
    let ends = 0
    let errors = 0
    let aborted = 0
    const lane = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) {
        if (i % 97 === 96) {
          const { call } = begin(client)
          if (i % 2 === 0) await new Promise((resolve) => setImmediate(resolve))
          call.abort()
          aborted++
        } else {
          const answer = await ask(client)
          ends += answer.ends
          errors += answer.errors.length
        }
      }
    }
    const lanes = (count: number): Promise<unknown> =>
      Promise.all(Array.from({ length: 16 }, () => lane(count)))
    await lanes(125)
    // What the server noted is not the client's.
    server.forget()
    const before = heap()
    await lanes(500)
    server.forget()
    const grown = heap() - before
    t.equal(ends + errors + aborted, 16 * 625)
    t.ok(ends > 9_000)
    t.ok(errors > 100)
    t.ok(client.size.connections <= 16)
    t.equal(client.size.idle, client.size.connections)
    await eventually(
      'the server sees no more than those',
      () => server.open() === client.size.connections,
    )
    t.ok(grown < 4_000_000, `${grown} bytes`)
  },
)
