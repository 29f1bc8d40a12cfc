/** What is bound to a connection, seen as a Streamable HTTP server: sessions, answers, whose a message is, and what happens when it is lost. */
import t from 'tap'
import type { Test } from 'tap'

import { AdapterError } from '../../src/shared/errors.ts'
import { BoundUpstream } from '../../src/worker/upstream/bound/bound-upstream.ts'
import { eventually } from '../support/eventually.ts'
import { INITIALIZE_RESULT, ScriptedTransport } from '../support/scripted-connection.ts'
import { UpstreamClient } from '../support/upstream-client.ts'

function lost(): AdapterError {
  return new AdapterError('ADAPTER_UPSTREAM_UNREACHABLE', 'the connection is gone')
}

function start(t: Test, { initializeTimeoutMs = 10_000 } = {}) {
  const transport = new ScriptedTransport()
  const upstream = new BoundUpstream({ transport, initializeTimeoutMs })
  t.teardown(() => upstream.close())
  return { transport, upstream, client: new UpstreamClient(upstream) }
}

async function open(t: Test) {
  const { transport, upstream, client } = start(t)
  await client.initialize()
  return { transport, upstream, client, connection: transport.last }
}

t.test('initialize opens a connection and names it in an unguessable header', async (t) => {
  const { transport, upstream, client } = start(t)
  const answer = await client.initialize('first')
  t.equal(answer.status, 200)
  t.equal(answer.header('content-type'), 'application/json')
  t.match(answer.messages, [{ id: 'first', result: INITIALIZE_RESULT }])
  t.match(client.sessionId, /^[\w-]{32}$/)
  const other = new UpstreamClient(upstream)
  await other.initialize()
  t.not(other.sessionId, client.sessionId)
  t.equal(transport.connections.length, 2, 'one connection a session')
  t.equal(upstream.size, 2)
})

t.test('a server that refuses initialize gets no session, and its connection ends', async (t) => {
  const { transport, upstream, client } = start(t)
  transport.onSent = ({ id }, connection) =>
    connection.say({ jsonrpc: '2.0', id, error: { code: -32602, message: 'no' } })
  const answer = await client.initialize()
  t.equal(answer.status, 200)
  t.match(answer.messages, [{ error: { code: -32602 } }])
  t.equal(client.sessionId, undefined)
  await eventually('the connection is closed', () => transport.last.isClosed)
  t.equal(upstream.size, 0)
})

t.test('a server that can not be reached, or does not answer in time, is told so', async (t) => {
  const { transport, upstream, client } = start(t, { initializeTimeoutMs: 20 })
  transport.refusal = lost()
  t.match((await client.initialize()).error, { code: 'ADAPTER_UPSTREAM_UNREACHABLE' })
  transport.refusal = undefined
  transport.onSent = () => {}
  t.match((await client.initialize()).error, { code: 'ADAPTER_UPSTREAM_TIMEOUT' })
  t.ok(transport.last.isClosed, 'nothing is left behind')
  transport.onSent = (_message, connection) => connection.lose(lost())
  t.match((await client.initialize()).error, { code: 'ADAPTER_UPSTREAM_UNREACHABLE' })
  t.equal(upstream.size, 0)
})

t.test('an initialize that is aborted leaves no connection behind', async (t) => {
  const { transport, upstream, client } = start(t)
  transport.onSent = () => {}
  const { call } = client.request(1, 'initialize')
  await eventually('it is sent', () => transport.connections[0]?.sent.length === 1)
  call.abort()
  await eventually('the connection is closed', () => transport.last.isClosed)
  t.equal(upstream.size, 0)
})

t.test('what a server says before it has answered initialize waits for the stream', async (t) => {
  const { transport, client } = start(t)
  transport.onSent = ({ id, method }, connection) => {
    if (method !== 'initialize') return
    connection.say({ jsonrpc: '2.0', method: 'notifications/message', params: { data: 'early' } })
    connection.say({ jsonrpc: '2.0', id: 7, method: 'ping' })
    connection.answer(id, INITIALIZE_RESULT)
  }
  t.match((await client.initialize()).messages, [{ result: INITIALIZE_RESULT }])
  t.match(transport.last.sent.at(-1), { id: 7, result: {} }, 'a ping is answered for the client')
  const stream = client.get()
  await eventually('the stream has it', () => stream.text.includes('early'))
})

t.test('an answer alone is JSON, byte for byte; with other messages it is a stream', async (t) => {
  const { client, connection } = await open(t)
  const plain = client.request(1)
  await connection.received('tools/call')
  const written = '{"jsonrpc":"2.0", "result":{"big":12345678901234567890},"id":1}'
  connection.say(written)
  await plain.ended()
  t.equal(plain.text, written)
  t.equal(plain.header('content-type'), 'application/json')

  const streamed = client.request(2, 'tools/call', { _meta: { progressToken: 'p' } })
  await eventually('it is sent', () => connection.sent.at(-1)?.id === 2)
  const progress = {
    jsonrpc: '2.0',
    method: 'notifications/progress',
    params: { progressToken: 'p' },
  }
  connection.say(progress)
  t.ok(streamed.isStream, 'at once, not with the answer')
  t.notOk(streamed.isEnded)
  connection.answer(2, { done: true })
  await streamed.ended()
  t.match(streamed.messages, [progress, { id: 2, result: { done: true } }])
})

t.test('line breaks inside a message neither break events nor the connection', async (t) => {
  const { client, connection } = await open(t)
  const call = client.post('{"jsonrpc":"2.0",\n"id":1,\r\n"method":"tools/call"}')
  await connection.received('tools/call')
  t.notMatch(connection.raw.at(-1), /[\r\n]/)
  connection.say({ jsonrpc: '2.0', method: 'notifications/message', params: {} })
  connection.say('{"jsonrpc":"2.0",\r\n"id":1,\n"result":{}}')
  await call.ended()
  t.match(call.messages, [{ method: 'notifications/message' }, { id: 1, result: {} }])
})

t.test('ids of different types are different calls, and both get their answers', async (t) => {
  const { client, connection } = await open(t)
  const [number, text] = [client.request(5), client.request('5')]
  await eventually('both are sent', () => connection.sent.filter(({ id }) => id == 5).length === 2)
  connection.answer('5', { is: 'text' })
  connection.answer(5, { is: 'number' })
  t.match((await text.ended()).messages, [{ id: '5', result: { is: 'text' } }])
  t.match((await number.ended()).messages, [{ id: 5, result: { is: 'number' } }])
})

t.test('a request whose id is in use is refused, and the first goes on', async (t) => {
  const { client, connection } = await open(t)
  const first = client.request(1)
  await connection.received('tools/call')
  const second = await client.request(1).ended()
  t.equal(second.status, 400)
  t.match(second.messages, [{ error: { code: -32600 } }])
  connection.answer(1)
  t.equal((await first.ended()).status, 200)
  t.equal(connection.sent.filter(({ method }) => method === 'tools/call').length, 1)
})

t.test('a call that nobody waits for goes on, and its late answer goes nowhere', async (t) => {
  const { client, connection } = await open(t)
  const gone = client.request(1)
  await connection.received('tools/call')
  gone.call.abort()
  t.notOk(
    connection.sent.some(({ method }) => method === 'notifications/cancelled'),
    'a disconnect is not a cancellation',
  )
  t.equal((await client.request(1).ended()).status, 400, 'its id is not free yet')
  const other = client.request(2)
  await eventually('it is sent', () => connection.sent.at(-1)?.id === 2)
  connection.answer(1, { late: true })
  connection.answer(2, { mine: true })
  t.match((await other.ended()).messages, [{ id: 2, result: { mine: true } }])
  t.equal(gone.text, '')
  const again = client.request(1)
  await eventually('it is sent', () => connection.sent.at(-1)?.id === 1)
  connection.answer(1)
  t.equal((await again.ended()).status, 200, 'now it is')
})

t.test('a cancelled call that the server leaves unanswered ends', async (t) => {
  const { client, connection } = await open(t)
  const call = client.request(1)
  await connection.received('tools/call')
  const params = { requestId: 1 }
  const note = client.post({ jsonrpc: '2.0', method: 'notifications/cancelled', params })
  t.equal((await note.ended()).status, 202)
  t.match(connection.sent.at(-1), { method: 'notifications/cancelled', params })
  await call.ended()
  t.same([call.status, call.messages], [200, []])
})

t.test('messages that belong to no call by their content have an order of takers', async (t) => {
  const { client, connection } = await open(t)
  const ask = (id: number): void =>
    connection.say({ jsonrpc: '2.0', id, method: 'elicitation/create', params: {} })

  ask(100)
  const first = client.request(1)
  await eventually('it is sent', () => connection.sent.at(-1)?.id === 1)
  ask(101)
  await eventually('the only call has it', () => first.messages.length === 1)
  t.match(first.messages, [{ id: 101 }])

  const second = client.request(2)
  await eventually('it is sent', () => connection.sent.at(-1)?.id === 2)
  ask(102)
  t.match(first.messages.at(-1), { id: 102 }, 'the oldest of several, without a stream')

  const stream = await client.get().began()
  t.match(stream.messages, [{ id: 100 }], 'what came while nobody was there has waited')
  ask(103)
  t.match(stream.messages.at(-1), { id: 103 }, 'the stream, of several')
  t.equal(second.text, '')

  connection.answer(1)
  ask(104)
  t.ok(second.text.includes('104'), 'the only call again')
  connection.answer(2)
  await second.ended()
  const reply = { jsonrpc: '2.0', id: 104, result: { action: 'accept' } }
  t.equal((await client.post(reply).ended()).status, 202)
  t.match(connection.sent.at(-1), reply)
})

t.test('progress goes to its call among several, whatever the type of its token', async (t) => {
  const { client, connection } = await open(t)
  const calls = [1, '1'].map((token, index) =>
    client.request(index, 'tools/call', { _meta: { progressToken: token } }),
  )
  await eventually('both are sent', () => connection.sent.at(-1)?.id === 1)
  for (const token of ['1', 1]) {
    const params = { progressToken: token, progress: 1 }
    connection.say({ jsonrpc: '2.0', method: 'notifications/progress', params })
  }
  t.match(calls[0]?.messages, [{ params: { progressToken: 1 } }])
  t.match(calls[1]?.messages, [{ params: { progressToken: '1' } }])
})

t.test('a second stream is refused with 409 while the first is open', async (t) => {
  const { client } = await open(t)
  const first = await client.get().began()
  t.same([first.status, first.isStream], [200, true])
  t.equal((await client.get().ended()).status, 409)
  first.call.abort()
  t.equal((await client.get().began()).status, 200)
})

t.test('what waits for a stream is bounded, and a question that is lost is answered', async (t) => {
  const { client, connection } = await open(t)
  connection.say({ jsonrpc: '2.0', id: 'q', method: 'roots/list' })
  for (let i = 0; i < 300; i++)
    connection.say({ jsonrpc: '2.0', method: 'notifications/message', params: { i } })
  t.match(connection.sent.at(-1), { id: 'q', error: { code: -32603 } })
  const stream = await client.get().began()
  t.equal(stream.messages.length, 256)
  t.match(stream.messages.at(-1), { params: { i: 299 } }, 'the newest are kept')
})

t.test('a client that does not read its call pauses the connection, and goes on', async (t) => {
  const { client, connection } = await open(t)
  const call = client.request(1, 'tools/call', { _meta: { progressToken: 'p' } })
  await connection.received('tools/call')
  call.call.pause()
  const message = 'x'.repeat(100_000)
  for (let i = 0; i < 12; i++) {
    const params = { progressToken: 'p', progress: i, message }
    connection.say({ jsonrpc: '2.0', method: 'notifications/progress', params })
  }
  connection.answer(1)
  t.ok(connection.isPaused)
  t.equal(call.text, '')
  call.call.resume()
  await call.ended()
  t.notOk(connection.isPaused)
  t.same(
    call.messages.map(({ id, params }) => id ?? params?.['progress']),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1],
    'all of it, in order',
  )
})

t.test('a reader that goes away lets a paused connection go on', async (t) => {
  const { client, connection } = await open(t)
  const { call } = client.request(1, 'tools/call', { _meta: { progressToken: 'p' } })
  await connection.received('tools/call')
  call.pause()
  const params = { progressToken: 'p', message: 'x'.repeat(1_100_000) }
  connection.say({ jsonrpc: '2.0', method: 'notifications/progress', params })
  t.ok(connection.isPaused)
  call.abort()
  t.notOk(connection.isPaused)
})

t.test('a client that does not read its stream loses the stream, not its calls', async (t) => {
  const { client, connection } = await open(t)
  const stream = await client.get().began()
  stream.call.pause()
  const params = { data: 'x'.repeat(1_000_000) }
  for (let i = 0; i < 5; i++)
    connection.say({ jsonrpc: '2.0', method: 'notifications/message', params })
  t.ok(stream.error)
  t.notOk(connection.isPaused)
  const call = client.request(1)
  await connection.received('tools/call')
  connection.answer(1)
  t.equal((await call.ended()).status, 200)
})

t.test('a lost connection fails what is under way, and its session is unknown', async (t) => {
  const { upstream, client, connection } = await open(t)
  const stream = await client.get().began()
  const call = client.request(1)
  const begun = client.request(2, 'tools/call', { _meta: { progressToken: 'p' } })
  await eventually('it is sent', () => connection.sent.at(-1)?.id === 2)
  connection.say({
    jsonrpc: '2.0',
    method: 'notifications/progress',
    params: { progressToken: 'p' },
  })
  connection.lose(lost())
  for (const answer of [stream, call, begun])
    t.match(answer.error, { code: 'ADAPTER_UPSTREAM_UNREACHABLE' })
  for (const answer of [client.request(3), client.get(), client.delete()]) {
    await answer.ended()
    t.equal(answer.status, 404)
    t.match(answer.messages, [{ error: { code: -32001 } }])
  }
  t.equal(upstream.size, 0)
  await client.initialize()
  t.ok(client.sessionId, 'a new session can be opened')
})

t.test('a message that can not be delivered fails its request only', async (t) => {
  const { client, connection } = await open(t)
  connection.refusal = lost()
  t.match((await client.request(1).ended()).error, { code: 'ADAPTER_UPSTREAM_UNREACHABLE' })
  const note = await client.post({ jsonrpc: '2.0', method: 'notifications/initialized' }).ended()
  t.match(note.error, { code: 'ADAPTER_UPSTREAM_UNREACHABLE' })
  connection.refusal = undefined
  const call = client.request(1)
  await connection.received('tools/call')
  connection.answer(1)
  t.equal((await call.ended()).status, 200)
})

t.test('DELETE ends the connection and all that is under way', async (t) => {
  const { upstream, client, connection } = await open(t)
  const call = client.request(1)
  const stream = await client.get().began()
  t.equal((await client.delete().ended()).status, 200)
  t.ok(connection.isClosed)
  t.ok(call.error)
  t.ok(stream.error)
  t.equal((await client.request(2).ended()).status, 404)
  t.equal(upstream.size, 0)
})

t.test(
  'requests without a session, or with a strange one, are refused as servers do',
  async (t) => {
    const { transport, client } = start(t)
    t.equal((await client.request(1).ended()).status, 400)
    t.equal((await client.get().ended()).status, 400)
    t.equal((await client.delete().ended()).status, 400)
    client.sessionId = 'strange'
    t.equal((await client.request(1).ended()).status, 404)
    t.equal((await client.request(1, 'initialize').ended()).status, 404)
    t.equal(transport.connections.length, 0)
    client.sessionId = undefined
    await client.initialize()
    t.equal((await client.request(1, 'initialize').ended()).status, 400, 'a session has one')
    t.equal((await client.post('{').ended()).status, 400)
  },
)

t.test('a revision without sessions is refused as by a server that knows none', async (t) => {
  const { transport, client } = start(t)
  const meta = { 'io.modelcontextprotocol/protocolVersion': '2026-07-28' }
  const answer = await client.request(9, 'server/discover', { _meta: meta }).ended()
  t.equal(answer.status, 400)
  t.match(answer.messages, [
    { id: 9, error: { code: -32000, message: /Unsupported protocol version: 2026-07-28/ } },
  ])
  t.equal(transport.connections.length, 0)
})

t.test('a batch is sent one by one and answered in a stream', async (t) => {
  const { client, connection } = await open(t)
  const batch = client.post([
    { jsonrpc: '2.0', id: 1, method: 'tools/list' },
    { jsonrpc: '2.0', method: 'notifications/x' },
    { jsonrpc: '2.0', id: 2, method: 'tools/list' },
  ])
  await eventually('it is sent', () => connection.sent.at(-1)?.id === 2)
  // Revision 2025-03-26 lets a server answer in a batch, too.
  connection.say([
    { jsonrpc: '2.0', id: 2, result: {} },
    { jsonrpc: '2.0', id: 1, result: {} },
  ])
  await batch.ended()
  t.same(
    batch.messages.map(({ id }) => id),
    [2, 1],
  )
})

t.test('what is no message is passed over, and what must not be parsed ends it', async (t) => {
  const { client, connection } = await open(t)
  const call = client.request(1)
  await connection.received('tools/call')
  for (const garbage of ['', 'Listening…', '{', '[1]', '"x"', 'null', '{"id":1,"result":{}}'])
    connection.say(garbage)
  t.equal(call.status, 0)
  connection.say('['.repeat(100_000))
  await call.ended()
  t.match(call.error, { code: 'ADAPTER_UPSTREAM_INVALID' })
  t.ok(connection.isClosed)
})

t.test('close ends every connection and refuses what comes after', async (t) => {
  const { transport, upstream, client, connection } = await open(t)
  const call = client.request(1)
  await connection.received('tools/call')
  await upstream.close()
  t.ok(connection.isClosed)
  t.ok(transport.isClosed)
  t.match(call.error, { code: 'ADAPTER_STOPPING' })
  t.match((await client.request(2).ended()).error, { code: 'ADAPTER_STOPPING' })
})
