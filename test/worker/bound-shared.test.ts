/** One connection for several sessions: nobody reaches another's calls, and what can't be told whose it is goes to nobody. */
import t from 'tap'
import type { Test } from 'tap'

import { AdapterError } from '../../src/shared/errors.ts'
import type { Log } from '../../src/shared/log.ts'
import { BoundUpstream } from '../../src/worker/upstream/bound/bound-upstream.ts'
import type {
  MessageConnection,
  MessageListener,
  MessageTransport,
} from '../../src/worker/upstream/bound/message-connection.ts'
import { SharedTransport } from '../../src/worker/upstream/bound/shared/shared-transport.ts'
import { eventually } from '../support/eventually.ts'
import {
  INITIALIZE_RESULT,
  ScriptedConnection,
  ScriptedTransport,
} from '../support/scripted-connection.ts'
import { UpstreamClient } from '../support/upstream-client.ts'

function start(t: Test, { initializeTimeoutMs = 10_000, maxRestarts = 5 } = {}) {
  const logged: string[] = []
  const note = (_about: unknown, message?: string): void => void logged.push(String(message))
  const log: Log = { debug: note, info: note, warn: note, error: note }
  const inner = new ScriptedTransport()
  const transport = new SharedTransport({
    serverId: 's',
    transport: inner,
    initializeTimeoutMs,
    maxRestarts,
    windowMs: 60_000,
    log,
  })
  const upstream = new BoundUpstream({ transport, initializeTimeoutMs, idleLimitMs: null })
  t.teardown(() => upstream.close())
  return { inner, upstream, logged }
}

async function join(upstream: BoundUpstream, id: unknown = 0): Promise<UpstreamClient> {
  const client = new UpstreamClient(upstream)
  await client.initialize(id)
  await client.post({ jsonrpc: '2.0', method: 'notifications/initialized' }).ended()
  return client
}

async function pair(t: Test) {
  const { inner, upstream, logged } = start(t)
  const [one, other] = [await join(upstream), await join(upstream)]
  return { inner, upstream, logged, one, other, connection: inner.last }
}

function lost(): AdapterError {
  return new AdapterError('ADAPTER_UPSTREAM_UNREACHABLE', 'the connection is gone')
}

t.test('the server is initialised once, and every session gets its answer', async (t) => {
  const { inner, upstream } = start(t)
  const clients = [new UpstreamClient(upstream), new UpstreamClient(upstream)]
  const answers = await Promise.all(clients.map((client, index) => client.initialize(`i${index}`)))
  t.match(
    answers.map(({ messages }) => messages[0]),
    [
      { id: 'i0', result: INITIALIZE_RESULT },
      { id: 'i1', result: INITIALIZE_RESULT },
    ],
  )
  t.not(clients[0]?.sessionId, clients[1]?.sessionId)
  for (const client of clients)
    await client.post({ jsonrpc: '2.0', method: 'notifications/initialized' }).ended()
  t.equal(inner.connections.length, 1)
  const { sent } = inner.last
  t.same(
    sent.map(({ method }) => method),
    ['initialize', 'notifications/initialized'],
  )
  t.match(sent[0]?.params, { protocolVersion: '2025-06-18', capabilities: {} })
})

t.test('answers and progress find their session though ids and tokens are the same', async (t) => {
  const { one, other, connection } = await pair(t)
  const meta = { _meta: { progressToken: 1 }, name: 'x' }
  const calls = [one.request(1, 'tools/call', meta), other.request(1, 'tools/call', meta)]
  await eventually('both are sent', () => connection.sent.length === 4)
  const [first, second] = connection.sent.slice(2)
  t.not(first?.id, second?.id)
  t.match(first?.params, { name: 'x', _meta: { progressToken: first?.id } })
  for (const [index, message] of [second, first].entries()) {
    const params = { progressToken: message?.id, progress: index }
    connection.say({ jsonrpc: '2.0', method: 'notifications/progress', params })
    connection.answer(message?.id, { index })
  }
  t.match((await calls[0]?.ended())?.messages, [
    { params: { progressToken: 1, progress: 1 } },
    { id: 1, result: { index: 1 } },
  ])
  t.match((await calls[1]?.ended())?.messages, [
    { params: { progressToken: 1, progress: 0 } },
    { id: 1, result: { index: 0 } },
  ])
})

t.test('a message that can be read in two ways does not reach the call of another', async (t) => {
  const { one, other, connection } = await pair(t)
  const victim = one.request(1)
  await connection.received('tools/call')
  const id = connection.sent.at(-1)?.id
  other.post(`{"jsonrpc":"2.0","id":${String(id)},"ID":${String(id)},"method":"x","id":"mine"}`)
  await connection.received('x')
  t.notMatch(connection.raw.at(-1), new RegExp(`"id":${String(id)}\\b|"ID"|mine`))
  connection.answer(id, { for: 'victim' })
  t.match((await victim.ended()).messages, [{ id: 1, result: { for: 'victim' } }])
})

t.test('a cancellation reaches its own call only', async (t) => {
  const { one, other, connection } = await pair(t)
  one.request(7)
  await connection.received('tools/call')
  const ours = connection.sent.at(-1)?.id
  const cancel = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 7 } }
  t.equal((await other.post(cancel).ended()).status, 202)
  t.equal(connection.sent.at(-1)?.method, 'tools/call', 'not that of another')
  await one.post(cancel).ended()
  t.match(connection.sent.at(-1), { ...cancel, params: { requestId: ours } })
})

t.test(
  'what the server asks is answered here, and what it tells goes to whom it may',
  async (t) => {
    const { one, other, connection } = await pair(t)
    const streams = [await one.get().began(), await other.get().began()]
    connection.say({ jsonrpc: '2.0', id: 'p', method: 'ping' })
    t.match(connection.sent.at(-1), { id: 'p', result: {} })
    for (const method of ['sampling/createMessage', 'elicitation/create', 'roots/list']) {
      connection.say({ jsonrpc: '2.0', id: method, method })
      t.match(connection.sent.at(-1), { id: method, error: { code: -32601 } })
    }
    connection.say({ jsonrpc: '2.0', method: 'notifications/message', params: { data: 'private' } })
    connection.say({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' })
    for (const stream of streams)
      t.match(stream.messages, [{ method: 'notifications/tools/list_changed' }])

    const uri = 'test://r'
    const updated = { jsonrpc: '2.0', method: 'notifications/resources/updated', params: { uri } }
    const answerLast = (): void => connection.answer(connection.sent.at(-1)?.id)
    const subscribe = one.request(1, 'resources/subscribe', { uri })
    await connection.received('resources/subscribe')
    answerLast()
    await subscribe.ended()
    connection.say(updated)
    t.match(streams[0]?.messages.at(-1), updated)
    t.equal(streams[1]?.messages.length, 1, 'not who did not subscribe')
    const before = connection.sent.length
    const second = other.request(1, 'resources/subscribe', { uri })
    await eventually('it is sent', () => connection.sent.length > before)
    answerLast()
    await second.ended()
    t.equal((await one.request(2, 'resources/unsubscribe', { uri }).ended()).status, 200)
    t.not(connection.sent.at(-1)?.method, 'resources/unsubscribe', 'another still wants it')
    const last = other.request(2, 'resources/unsubscribe', { uri })
    await connection.received('resources/unsubscribe')
    answerLast()
    await last.ended()
  },
)

t.test('a session that ends leaves the others alone, and its calls are cancelled', async (t) => {
  const { one, other, connection } = await pair(t)
  one.request(1)
  await connection.received('tools/call')
  const ours = connection.sent.at(-1)?.id
  t.equal((await one.delete().ended()).status, 200)
  t.match(connection.sent.at(-1), {
    method: 'notifications/cancelled',
    params: { requestId: ours },
  })
  t.notOk(connection.isClosed)
  const call = other.request(1)
  await eventually('it is sent', () => connection.sent.at(-1)?.method === 'tools/call')
  connection.answer(ours, { late: true })
  connection.answer(connection.sent.at(-1)?.id, { mine: true })
  t.match((await call.ended()).messages, [{ id: 1, result: { mine: true } }])
})

t.test('a session that does not read is cut off, and the others go on', async (t) => {
  const { one, other, connection } = await pair(t)
  const slow = one.request(1, 'tools/call', { _meta: { progressToken: 1 } })
  await connection.received('tools/call')
  const progressToken = connection.sent.at(-1)?.id
  slow.call.pause()
  for (let i = 0; i < 7; i++) {
    const params = { progressToken, message: 'x'.repeat(1_000_000) }
    connection.say({ jsonrpc: '2.0', method: 'notifications/progress', params })
  }
  t.match(slow.error, { code: 'ADAPTER_UPSTREAM_UNREACHABLE' })
  t.notOk(connection.isPaused)
  const call = other.request(1)
  await eventually('it is sent', () => connection.sent.at(-1)?.method === 'tools/call')
  connection.answer(connection.sent.at(-1)?.id)
  t.equal((await call.ended()).status, 200)
})

t.test('a lost connection ends all sessions, and is opened again when it is needed', async (t) => {
  const { inner, upstream, logged, one, other, connection } = await pair(t)
  const calls = [one.request(1), other.request(1)]
  await eventually('both are sent', () => connection.sent.length === 4)
  connection.lose(lost())
  for (const call of calls) t.match(call.error, { code: 'ADAPTER_UPSTREAM_UNREACHABLE' })
  t.equal((await one.request(2).ended()).status, 404)
  t.equal(inner.connections.length, 1, 'not before')
  await Promise.all([join(upstream), join(upstream)])
  t.equal(inner.connections.length, 2)
  t.ok(logged.includes('shared server starts again'))
})

t.test('a server that ends again and again is not started again for now', async (t) => {
  const { inner, upstream, logged } = start(t, { maxRestarts: 1 })
  inner.onSent = (_message, connection) => connection.lose(lost())
  const client = new UpstreamClient(upstream)
  for (let i = 0; i < 2; i++) t.match((await client.initialize()).error, { message: /is gone/ })
  t.match((await client.initialize()).error, {
    code: 'ADAPTER_UPSTREAM_UNREACHABLE',
    message: /ended 2 times within 60 s/,
  })
  t.equal(inner.connections.length, 2)
  t.ok(logged.some((line) => line.includes('again and again')))
})

t.test(
  'a server that does not answer initialize is ended, and the next one is asked',
  async (t) => {
    const { inner, upstream } = start(t, { initializeTimeoutMs: 50 })
    inner.onSent = () => {}
    const client = new UpstreamClient(upstream)
    t.match((await client.initialize()).error, { code: 'ADAPTER_UPSTREAM_TIMEOUT' })
    await eventually('the connection is closed', () => inner.last.isClosed)
    const [silent] = inner.connections
    inner.onSent = ({ id, method }, connection) => {
      if (method === 'initialize') connection.answer(id, INITIALIZE_RESULT)
    }
    await eventually('another is used', async () => (await client.initialize()).status === 200)
    t.not(inner.last, silent)
  },
)

t.test('a refused initialize is told, and asked again for the next session', async (t) => {
  const { inner, upstream } = start(t)
  inner.onSent = ({ id }, connection) =>
    connection.say({ jsonrpc: '2.0', id, error: { code: -32602, message: 'no' } })
  const client = new UpstreamClient(upstream)
  t.match((await client.initialize()).messages, [{ error: { code: -32602 } }])
  inner.onSent = ({ id }, connection) => connection.answer(id, INITIALIZE_RESULT)
  t.match((await client.initialize()).messages, [{ result: INITIALIZE_RESULT }])
  t.equal(inner.connections.length, 1)
})

/** A transport whose connections are opened when the test says so. */
class SlowTransport implements MessageTransport {
  readonly opens: {
    readonly listener: MessageListener
    readonly resolve: (connection: MessageConnection) => void
    readonly reject: (error: AdapterError) => void
  }[] = []

  open(listener: MessageListener): Promise<MessageConnection> {
    return new Promise((resolve, reject) => this.opens.push({ listener, resolve, reject }))
  }

  async close(): Promise<void> {}
}

const nothing = (): void => {}

function startSlow(t: Test) {
  const inner = new SlowTransport()
  const transport = new SharedTransport({
    serverId: 's',
    transport: inner,
    initializeTimeoutMs: 10_000,
    maxRestarts: 5,
    windowMs: 60_000,
    log: { debug: nothing, info: nothing, warn: nothing, error: nothing },
  })
  t.teardown(() => transport.close())
  const nobody = { message: nothing, closed: nothing }
  const open = (): Promise<MessageConnection> =>
    transport.open(nobody, [], new AbortController().signal)
  const opened = async (number: number) => {
    await eventually(`${number} are opened`, () => inner.opens.length >= number)
    const found = inner.opens[number - 1]
    if (found === undefined) throw new Error(`no connection ${number}`)
    return found
  }
  return { inner, open, opened }
}

t.test('a server that dies while it is started takes nobody from the next one', async (t) => {
  const { inner, open, opened } = startSlow(t)
  const one = open()
  const early = await opened(1)
  early.listener.closed(lost())
  const other = open()
  const next = await opened(2)
  early.reject(lost())
  await t.rejects(one, { code: 'ADAPTER_UPSTREAM_UNREACHABLE' })
  const third = open()
  next.resolve(new ScriptedConnection(next.listener, () => {}))
  await Promise.all([other, third])
  t.equal(inner.opens.length, 2, 'the third shares the second')
  next.listener.closed(lost())
  const fourth = open()
  const last = await opened(3)
  last.resolve(new ScriptedConnection(last.listener, () => {}))
  await fourth
})

t.test('a server whose words while it is started are the end of it is ended', async (t) => {
  const { open, opened } = startSlow(t)
  const one = open()
  const { listener, resolve } = await opened(1)
  listener.message(Buffer.from('['.repeat(2_000)))
  const connection = new ScriptedConnection(listener, () => {})
  resolve(connection)
  await t.rejects(one, { code: 'ADAPTER_UPSTREAM_INVALID' })
  t.ok(connection.isClosed)
})
