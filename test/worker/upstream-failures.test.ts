// How requests to an upstream fail, are given up or held back over real sockets, and when one may be sent a second time.

import { once } from 'node:events'
import { createServer } from 'node:net'
import { Worker } from 'node:worker_threads'

import * as fc from 'fast-check'
import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
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

t.test('what breaks the rules is a 502, and the connection is gone', async (t) => {
  const broken = [
    'hello, this is not HTTP\r\n\r\n',
    'HTTP/1.1 200 OK\nContent-Length: 0\n\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n',
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n',
    'HTTP/1.1 200 OK\r\nX : 1\r\n\r\n',
  ]
  const { server, client } = await pair(t, (socket, _request, number) =>
    socket.write(broken[number - 1] ?? ''),
  )
  for (const bytes of broken) {
    const answer = await ask(client, { isSafe: true })
    t.equal(answer.code, 'ADAPTER_UPSTREAM_INVALID', bytes)
    t.match(answer.errors[0]?.message, /^the upstream server's answer is not valid HTTP \(/)
    t.equal(answer.heads, 0)
    t.equal(client.size.connections, 0)
  }
  await eventually('all are closed', () => server.open() === 0)
  t.equal(server.requests.length, broken.length, 'nothing was sent twice')

  const late = await pair(
    t,
    always('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokxx'),
  )
  const answer = await ask(late.client)
  t.equal(answer.heads, 1)
  t.equal(answer.body.toString(), 'ok')
  t.equal(answer.code, 'ADAPTER_UPSTREAM_INVALID')
  t.equal(answer.ends, 0)
})

t.test('garbage over a socket is always an end or an error', async (t) => {
  let garbage = Buffer.alloc(0)
  const { server, client } = await pair(t, (socket) => socket.end(garbage))
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), fc.boolean(), async (bytes, hasHead) => {
      garbage = Buffer.concat([Buffer.from(hasHead ? 'HTTP/1.1 200 OK\r\n' : ''), bytes])
      const answer = await ask(client)
      return answer.ends + answer.errors.length === 1
    }),
    { numRuns: 150 },
  )
  t.equal(client.size.connections, 0)
  await eventually('all are closed', () => server.open() === 0)
})

t.test('failures say what happened', async (t) => {
  const gone = await startRawServer(always(''))
  await gone.stop()
  const refused = await ask(clientOf(gone.port), { isSafe: true })
  t.equal(refused.code, 'ADAPTER_UPSTREAM_UNREACHABLE')
  t.equal(refused.errors[0]?.message, 'the upstream server can not be reached (ECONNREFUSED)')

  const unknown = await ask(clientOf(80, { url: new URL('http://nowhere.invalid/') }))
  t.equal(unknown.code, 'ADAPTER_UPSTREAM_UNREACHABLE')
  t.match(unknown.errors[0]?.message, /\((ENOTFOUND|EAI_AGAIN)\)$/)

  const { server, client } = await pair(t, (socket, { head, body }) => {
    if (head.includes('x-begun')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf')
    const how = body.toString()
    // The head must be on its way before the cut.
    setTimeout(() => (how === 'reset' ? socket.resetAndDestroy() : socket.end()), 30)
  })
  const table = [
    ['reset', [], 'the upstream server can not be reached (ECONNRESET)', 0],
    ['close', [], 'the upstream server can not be reached (closed)', 0],
    ['reset', ['x-begun', '1'], 'the upstream server cut its answer short (ECONNRESET)', 1],
    ['close', ['x-begun', '1'], 'the upstream server cut its answer short (closed)', 1],
  ] as const
  for (const [how, headers, message, heads] of table) {
    const answer = await ask(client, { headers, body: Buffer.from(how), isSafe: true })
    t.equal(answer.code, 'ADAPTER_UPSTREAM_UNREACHABLE')
    t.equal(answer.errors[0]?.message, message)
    t.equal(answer.heads, heads)
    t.equal(answer.errors.length, 1)
    t.equal(client.size.connections, 0)
  }
  t.equal(server.requests.length, table.length, 'a new connection is no reason to try again')
})

t.test('a server that does not accept in time is a time-out', async (t) => {
  // The handshake never comes.
  const { server } = await pair(t, always(''))
  const client = clientOf(server.port, {
    url: new URL(`https://127.0.0.1:${server.port}/`),
    connectTimeoutMs: 150,
  })
  const answer = await ask(client)
  t.equal(answer.code, 'ADAPTER_UPSTREAM_TIMEOUT')
  t.equal(answer.errors[0]?.message, 'the upstream server did not accept a connection in time')
  t.same(client.size, { connections: 0, idle: 0, waiting: 0 })
  await eventually('the socket is gone', () => server.open() === 0)
})

t.test('a connection that is refused is tried once more, whatever the request is', async (t) => {
  const before = await startRawServer(always(''))
  await before.stop()
  const client = clientOf(before.port)
  const back = createServer((socket) => {
    socket.on('error', () => {}).once('data', () => socket.end(answerOf('back')))
  })
  t.teardown(async () => {
    await client.close()
    back.close()
  })
  const { witness } = begin(client)
  await eventually('it was refused', () => client.size.connections === 0)
  t.equal(client.size.waiting, 1)
  await new Promise<void>((resolve) => back.listen(before.port, '127.0.0.1', resolve))
  await within('the answer', witness.over)
  t.equal(witness.body.toString(), 'back')

  back.close()
  await eventually('nothing is open', () => client.size.connections === 0)
  t.equal((await ask(client)).code, 'ADAPTER_UPSTREAM_UNREACHABLE', 'and not for ever')
  const given = begin(client)
  await eventually('it was refused', () => client.size.waiting === 1)
  given.call.abort()
  t.same(client.size, { connections: 0, idle: 0, waiting: 0 })
  const stopped = begin(client)
  await eventually('it was refused', () => client.size.waiting === 1)
  await client.close()
  t.equal(stopped.witness.code, 'ADAPTER_STOPPING')
  t.equal(given.witness.errors.length, 0)
})

t.test('only a safe request is sent again when a used connection breaks under it', async (t) => {
  const seen: string[] = []
  const { server, client } = await pair(t, (socket, { body }) => {
    const text = body.toString()
    seen.push(text)
    if (text === 'warm' || (text === 'saved' && seen.filter((one) => one === text).length > 1))
      socket.write(answerOf('ok'))
    else if (text === 'closed') socket.end()
    else socket.resetAndDestroy()
  })
  const send = async (text: string, isSafe: boolean): Promise<Witness> => {
    await ask(client, { body: Buffer.from('warm') })
    return ask(client, { body: Buffer.from(text), isSafe })
  }
  t.equal((await send('unsafe', false)).code, 'ADAPTER_UPSTREAM_UNREACHABLE')
  t.equal((await send('safe', true)).code, 'ADAPTER_UPSTREAM_UNREACHABLE', 'only once more')
  t.equal((await send('closed', true)).code, 'ADAPTER_UPSTREAM_UNREACHABLE')
  t.equal((await send('saved', true)).body.toString(), 'ok')
  t.same(
    seen.filter((text) => text !== 'warm'),
    ['unsafe', 'safe', 'safe', 'closed', 'closed', 'saved', 'saved'],
  )
  t.equal(server.open(), 1)
})

t.test('a safe request is not sent again once a byte of its answer has come', async (t) => {
  const { server, client } = await pair(t, (socket, _request, number) => {
    if (number === 1) socket.write(answerOf('ok'))
    else socket.end('H')
  })
  await ask(client)
  const answer = await ask(client, { isSafe: true })
  t.equal(answer.code, 'ADAPTER_UPSTREAM_UNREACHABLE')
  t.equal(server.requests.length, 2)
})

/** A server on another thread: it goes on while this one is blocked. */
const BLOCKING_SERVER = `
  const { createServer } = require('node:net')
  const { parentPort, workerData } = require('node:worker_threads')
  const flag = new Int32Array(workerData)
  let last, requests = 0
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', () => { requests++; last = socket; socket.write('HTTP/1.1 200 OK\\r\\nContent-Length: 1\\r\\n\\r\\n' + requests) })
  })
  server.listen(0, '127.0.0.1', () => parentPort.postMessage(server.address().port))
  parentPort.on('message', (how) => {
    if (how === 'reset') last.resetAndDestroy()
    else last.end()
    last.once('close', () => { Atomics.store(flag, 0, 1); Atomics.notify(flag, 0) })
    if (how === 'end') setTimeout(() => { Atomics.store(flag, 0, 1); Atomics.notify(flag, 0) }, 20)
  })
`

for (const [how, idleMs] of [
  ['reset', 0],
  ['end', 1_100],
] as const) {
  t.test(
    `an unsafe request survives an idle connection that was closed (${how}) when it surely was not received`,
    async (t) => {
      const shared = new SharedArrayBuffer(4)
      const flag = new Int32Array(shared)
      const worker = new Worker(BLOCKING_SERVER, { eval: true, workerData: shared })
      const [port]: unknown[] = await once(worker, 'message')
      const client = clientOf(Number(port))
      t.teardown(async () => {
        await client.close()
        await worker.terminate()
      })
      t.equal((await ask(client)).body.toString(), '1')
      // Nothing is noticed here until the request has been given.
      if (idleMs > 0) Atomics.wait(flag, 0, 0, idleMs)
      worker.postMessage(how)
      t.not(Atomics.wait(flag, 0, 0, 5_000), 'timed-out', 'it is closed')
      t.equal(client.size.idle, 1, 'it still looks alive')
      const answer = await ask(client)
      t.equal(answer.code, undefined)
      t.equal(answer.body.toString(), '2')
    },
  )
}

t.test('after an abort nothing is called, and the connection is cut', async (t) => {
  const { server, client } = await pair(t, (socket, { body }) => {
    if (body.toString() !== 'silent')
      socket.write(
        'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n',
      )
  })
  const idle = begin(client)
  idle.call.abort()
  idle.call.abort()
  const silent = begin(client, { body: Buffer.from('silent') })
  await eventually('it is sent', () => server.requests.length === 1)
  silent.call.abort()
  await eventually('the connections are cut', () => server.open() === 0)
  t.equal(client.size.connections, 0)

  for (const at of ['head', 'data', 'end'] as const) {
    const witness = new Witness({ [at]: () => call.abort() })
    const call = client.call(post(), witness)
    await eventually(
      `it got to ${at}`,
      () => (at === 'head' ? witness.heads : at === 'data' ? witness.bytes : witness.ends) > 0,
    )
    // A whole answer to another request later, still nothing.
    await ask(client)
    t.equal(witness.errors.length, 0)
    t.equal(witness.ends, at === 'end' ? 1 : 0)
    t.equal(witness.body.toString(), at === 'head' ? '' : at === 'data' ? 'ab' : 'abcd')
  }
  for (const { witness } of [idle, silent]) {
    t.equal(witness.heads + witness.ends + witness.errors.length, 0)
  }
})

t.test('a listener that throws fails its own call', async (t) => {
  const { server, client } = await pair(t, always(answerOf('ok')))
  for (const at of ['head', 'data'] as const) {
    const answer = await ask(
      client,
      {},
      new Witness({
        [at]: () => {
          throw new Error('a bug')
        },
      }),
    )
    t.equal(answer.code, 'ADAPTER_INTERNAL')
    t.notMatch(answer.errors[0]?.message, /a bug/)
    t.equal(answer.ends, 0)
  }
  const atEnd = new Witness({
    end: () => {
      throw new Error('a bug')
    },
  })
  client.call(post(), atEnd)
  await eventually('it is told', () => atEnd.errors.length === 1)
  t.equal(atEnd.code, 'ADAPTER_INTERNAL')
  t.equal((await ask(client)).ends, 1)
  await eventually('their connections are closed', () => server.open() === 1)
})

t.test('chunks stay as they were given, whatever is read after them', async (t) => {
  const { client } = await pair(t, (socket, { body }) => {
    socket.write('HTTP/1.1 200 OK\r\n\r\n')
    for (let i = 0; i < 20; i++) setTimeout(() => socket.write(body.toString().repeat(5_000)), i)
    setTimeout(() => socket.end(), 40)
  })
  const letters = ['a', 'b', 'c', 'd']
  const answers = await Promise.all(
    letters.map((letter) => ask(client, { body: Buffer.from(letter) })),
  )
  for (const [i, letter] of letters.entries())
    t.ok(answers[i]?.body.equals(Buffer.alloc(100_000, letter)), letter)
})

t.test('a slow reader holds the server back, and gets everything in the end', async (t) => {
  const total = 64 * 1024 * 1024
  let written = 0
  let isBlocked = false
  const piece = Buffer.alloc(65_536, 'x')
  const { client } = await pair(t, (socket) => {
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${total}\r\n\r\n`)
    const more = (): void => {
      isBlocked = false
      while (written < total) {
        written += piece.length
        if (!socket.write(piece)) {
          isBlocked = true
          socket.once('drain', more)
          return
        }
      }
    }
    more()
  })
  let received = 0
  let ended = false
  let afterPause = 0
  let isPaused = false
  const listener = {
    head: () => {},
    data: (chunk: Uint8Array) => {
      received += chunk.byteLength
      if (isPaused) afterPause += chunk.byteLength
      else {
        isPaused = true
        call.pause()
      }
    },
    end: () => {
      ended = true
    },
    error: (error: Error) => t.fail(error.message),
  }
  const call = client.call(post(), listener)
  let seen = -1
  await eventually('the server is held back', async () => {
    if (seen === written && isBlocked && received > 0) return true
    seen = written
    await new Promise((resolve) => setTimeout(resolve, 100))
    return false
  })
  t.ok(received <= 1024 * 1024, `${received} bytes came through`)
  t.ok(afterPause <= 65_536, `${afterPause} bytes after the pause`)
  t.notOk(ended)
  for (let i = 0; i < 5; i++) {
    call.resume()
    call.pause()
  }
  call.resume()
  await eventually('it is all there', () => ended, 30_000)
  t.equal(received, total)
  t.same(client.size, { connections: 1, idle: 1, waiting: 0 })
})

t.test('a pause before the answer holds for it, and not for the next', async (t) => {
  const { server, client } = await pair(t, always(answerOf('ok')))
  const early = begin(client)
  early.call.pause()
  await eventually('it is answered', () => server.requests.length === 1)
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.equal(early.witness.bytes, 0)
  early.call.resume()
  await within('the answer', early.witness.over)
  const { witness, call } = begin(client, {}, { data: () => call.pause() })
  await within('the answer', witness.over)
  for (let i = 0; i < 3; i++) t.equal((await ask(client)).body.toString(), 'ok')
  t.equal(server.sockets.length, 1)
})

t.test('an event stream comes as it is sent, for as long as it goes on', async (t) => {
  const { server, client } = await pair(t, (socket) =>
    socket.write(
      'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n',
    ),
  )
  const { witness, call } = begin(client, { method: 'GET', body: null, isSafe: true })
  await eventually('the head is there', () => witness.heads === 1)
  t.same(witness.headers, ['content-type', 'text/event-stream'])
  for (let i = 0; i < 5; i++) {
    server.sockets[0]?.write('8\r\ndata: 1\n\r\n1\r\n\n\r\n')
    await eventually('the event is there', () => witness.bytes === 9 * (i + 1))
  }
  call.abort()
  await eventually('the stream is cut', () => server.open() === 0)
  t.equal(witness.ends + witness.errors.length, 0)
})

t.test('closing ends everything, and may be repeated', async (t) => {
  const { server, client } = await pair(t, (socket, { body }) => {
    if (body.toString() === 'idle') socket.write(answerOf('ok'))
  })
  await ask(client, { body: Buffer.from('idle') })
  const sent = begin(client)
  await eventually('it is sent', () => server.requests.length === 2)
  const connecting = begin(client)
  await Promise.all([client.close(), client.close()])
  await client.close()
  t.equal(sent.witness.code, 'ADAPTER_STOPPING')
  t.equal(connecting.witness.code, 'ADAPTER_STOPPING')
  t.equal((await ask(client)).code, 'ADAPTER_STOPPING')
  t.same(client.size, { connections: 0, idle: 0, waiting: 0 })
  await eventually('all are closed', () => server.open() === 0)
})
