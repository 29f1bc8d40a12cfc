/** How a replica stops: told first, it serves on, finishes what runs, sends clients elsewhere, and closes idle connections last. */
import { readdir } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'

import t from 'tap'
import type { Test } from 'tap'

import type { HttpResponse } from '../../src/primary/listener/native.ts'
import { PacedWriter } from '../../src/primary/listener/paced-writer.ts'
import { eventually, within } from '../support/eventually.ts'
import { FileRig, INITIALIZE } from '../support/file-rig.ts'
import { HOST, mcpPost, pathOf, RawConnection, sized } from '../support/raw-http.ts'
import { startReplica } from '../support/replica.ts'
import {
  beginStream,
  event,
  idOf,
  startScriptedUpstream,
} from '../support/upstreams/scripted-upstream.ts'
import { WireSession } from '../support/wire.ts'

t.setTimeout(600_000)

const READYZ = `GET /readyz HTTP/1.1\r\n${HOST}\r\n`

t.test('before it takes no more connections, a replica says so and serves on', async (t) => {
  const rig = await startRig(t, { core: { pre_drain_seconds: 2 } })
  const session = await rig.openSession()
  const stream = openStream(rig.port, session)
  await eventually('a stream is open', () => stream.text.includes('200 OK'))
  const kept = new RawConnection(rig.port).send(READYZ)
  t.match(await kept.response(), { status: 200 })
  t.notOk((await kept.response()).headers.has('connection'), 'a connection can be used again')
  const stopped = rig.replica.stop()

  await eventually('load balancers are told', async () => (await ask(rig, READYZ)).status === 503)
  const probe = await ask(rig, READYZ)
  t.equal(probe.status, 503, 'on a connection that is new')
  t.equal(probe.headers.get('connection'), 'close')

  const initialized = new RawConnection(rig.port).send(mcpPost(sized(INITIALIZE), INITIALIZE))
  const answer = await initialized.response()
  t.equal(answer.status, 200, 'a session is opened')
  t.ok(answer.headers.has('mcp-session-id'))
  t.equal(answer.headers.get('connection'), 'close', 'and the client is sent elsewhere')
  await initialized.closed()
  t.ok(await rig.serves(session), 'other clients are served, too')
  t.match(await put(rig, session, 'before the end'), /^upload:/, 'and uploads are taken')
  const refused = await ask(rig, `GET /nowhere HTTP/1.1\r\n${HOST}\r\n`)
  t.match(refused, { status: 404 })
  t.equal(refused.headers.get('connection'), 'close', 'refusals end their connection as well')

  t.notOk(stream.isClosed, 'standing streams stay: their clients would come back to this replica')
  t.equal(stream.responses().length, 0)
  t.notOk(kept.isClosed, 'and so do idle connections')
  await eventually('then, connections are refused', () => isRefused(rig.port))
  await eventually('the stream is ended properly', () => stream.responses().length === 1)
  await kept.closed()
  t.equal(await stopped, 0)
})

t.test('requests that come on open connections while others finish are served', async (t) => {
  const rig = await startRig(t, { core: { workers: 2 } })
  const session = await rig.openSession()
  const before = rig.upstream.calls.length
  const running = rig.call(session, 'slow', { ms: 1_500 })
  await eventually('a call is under way', () => rig.upstream.calls.length > before)
  const stream = openStream(rig.port, session)
  await eventually('a stream is open', () => stream.text.includes('200 OK'))
  const probe = await readyConnection(rig.port)
  const posting = await readyConnection(rig.port)
  const getting = await readyConnection(rig.port)
  const idle = await readyConnection(rig.port)
  const stopped = rig.replica.stop()
  await eventually('new connections are refused', () => isRefused(rig.port))
  await eventually('the standing stream is ended properly', () => stream.responses().length === 1)

  probe.send(READYZ)
  posting.send(mcpPost(sized(INITIALIZE), INITIALIZE))
  getting.send(streamRequest(session))
  await Promise.all([probe, posting, getting].map((connection) => connection.closed()))
  t.match(probe.responses()[1], { status: 503 }, 'the state, for load balancers')
  t.match(posting.responses()[1], { status: 200, body: /serverInfo/ }, 'a new session')
  t.match(getting.responses()[1], { status: 200 }, 'a stream that is over at once')
  for (const connection of [probe, posting, getting]) {
    t.equal(connection.responses()[1]?.headers.get('connection'), 'close')
  }
  t.notOk(idle.isClosed, 'who asks for nothing keeps the connection to the end')
  t.match(await running, { status: 200, text: /Waited/ }, 'the call is answered')
  t.equal(await stopped, 0)
  await idle.closed()
})

t.test('an answer that a call waits for reaches it while the replica stops', async (t) => {
  const upstream = await startScriptedUpstream()
  t.teardown(() => upstream.stop())
  upstream.scripts.set('tools/call ask', (request, response) => {
    const question = { jsonrpc: '2.0', id: 'q', method: 'elicitation/create', params: {} }
    beginStream(response)
    response.write(event(question))
    upstream.scripts.set('response', (given, acknowledged) => {
      acknowledged.writeHead(202).end()
      const result = { jsonrpc: '2.0', id: idOf(request), result: { said: given.body } }
      response.end(event(result))
    })
  })
  const replica = await startReplica({ config: configFor(upstream.url) })
  const session = await WireSession.open(`${replica.url}/mcp/u`)
  const call = await session.stream(session.message('tools/call', { name: 'ask', arguments: {} }))
  await call.until('elicitation/create')
  const kept = await readyConnection(replica.port)
  const stopped = replica.stop()
  await eventually('new connections are refused', () => isRefused(replica.port))
  const body = JSON.stringify({ jsonrpc: '2.0', id: 'q', result: { action: 'accept' } })
  const id = `Mcp-Session-Id: ${session.id}\r\n`
  kept.send(mcpPost(id + sized(body), body).replace('/mcp/files', '/mcp/u'))
  t.equal(await within('the call ends', call.ended), 'end')
  t.match(call.text(), /accept/)
  t.equal(await stopped, 0)
})

t.test('an upload that has begun is taken in to its end', async (t) => {
  const rig = await startRig(t)
  const session = await rig.openSession()
  const url = await rig.uploadUrl(session)
  const [first, second] = ['a'.repeat(300_000), 'b'.repeat(300_000)]
  const upload = new RawConnection(rig.port).send(
    `PUT ${pathOf(url)} HTTP/1.1\r\n${HOST}${sized(first + second)}\r\n${first}`,
  )
  const files = join(rig.replica.root, 'sessions')
  await eventually('it has begun', async () => {
    const options = { recursive: true, withFileTypes: true } as const
    const entries = await readdir(files, options).catch(() => [])
    return entries.some((entry) => entry.isFile())
  })
  const stopped = rig.replica.stop()
  await eventually('new connections are refused', () => isRefused(rig.port))
  upload.send(second)
  const answer = await upload.response()
  t.match(answer, { status: 200, body: /upload_handle/ })
  t.equal(answer.headers.get('connection'), 'close')
  t.equal(await stopped, 0)
})

t.test('an early answer does not cut the body that is still on its way', async (t) => {
  const rig = await startRig(t, { core: { pre_drain_seconds: 2 } })
  const stopped = rig.replica.stop()
  await eventually('load balancers are told', async () => (await ask(rig, READYZ)).status === 503)
  const body = 'x'.repeat(1_000_000)
  const connection = new RawConnection(rig.port).send(
    `POST /upload/files?mcp_upload_sig=none HTTP/1.1\r\n${HOST}${sized(body)}\r\n${body.slice(1)}`,
  )
  const answer = await connection.response()
  t.equal(answer.status, 403)
  t.equal(answer.headers.get('connection'), 'close', 'the client is asked to close')
  t.notOk(connection.isClosed, 'and can finish what it sends')
  connection.destroy()
  t.equal(await stopped, 0)
})

t.test('a relayed answer reaches a slow client whole', async (t) => {
  const upstream = await startScriptedUpstream()
  t.teardown(() => upstream.stop())
  const [pieces, piece] = [300, `${'x'.repeat(50_000)}\n`]
  upstream.scripts.set('tools/call pour', async (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/plain' })
    for (let index = 0; index < pieces; index++) {
      if (!response.write(piece)) await new Promise((resolve) => response.once('drain', resolve))
    }
    response.end('the end')
  })
  const replica = await startReplica({ config: configFor(upstream.url) })
  const session = await WireSession.open(`${replica.url}/mcp/u`)
  const body = JSON.stringify(session.message('tools/call', { name: 'pour', arguments: {} }))
  const client = new RawConnection(replica.port)
  const head = `Mcp-Session-Id: ${session.id}\r\n${sized(body)}`
  client.send(mcpPost(head, body).replace('/mcp/files', '/mcp/u'))
  await eventually('it has begun', () => client.receivedBytes > 0)
  client.socket.pause()
  const stopped = replica.stop()
  await eventually('new connections are refused', () => isRefused(replica.port))
  client.socket.resume()
  await client.closed()
  const answer = await client.response()
  t.equal(answer.body.length, pieces * piece.length + 'the end'.length)
  t.equal(await stopped, 0)
})

t.test('an answer has left only when the connection has taken the last of it', async (t) => {
  const written: string[] = []
  let takesAll = true
  // What the writer uses of a response: one that can be full.
  const response = {
    cork: (write: () => void) => write(),
    write: (piece: Uint8Array) => {
      written.push(Buffer.from(piece).toString())
      return takesAll
    },
  } as unknown as HttpResponse
  const flow = { pause: () => {}, resume: () => {}, overflow: () => {} }
  const heard: string[] = []

  const fast = new PacedWriter(response, flow)
  fast.write('all', () => {})
  fast.whenSent(() => heard.push('fast'))
  t.same(heard, ['fast'], 'nothing is held')

  takesAll = false
  const slow = new PacedWriter(response, flow)
  slow.write('some', () => {})
  slow.write('more', () => {})
  slow.whenSent(() => heard.push('slow'))
  slow.writable()
  t.same(written, ['all', 'some', 'more'])
  t.same(heard, ['fast'], 'the last piece may be held below')
  slow.writable()
  t.same(heard, ['fast', 'slow'], 'until the connection could take more')

  const flushed = new PacedWriter(response, flow)
  flushed.write('some', () => {})
  flushed.writable()
  flushed.whenSent(() => heard.push('flushed'))
  t.same(heard, ['fast', 'slow', 'flushed'], 'also where it could before')
})

t.test('a second signal cuts the stop short', async (t) => {
  const rig = await startRig(t, { core: { pre_drain_seconds: 60, shutdown_timeout_seconds: 60 } })
  const session = await rig.openSession()
  const before = rig.upstream.calls.length
  const running = rig.call(session, 'slow', { ms: 20_000 }).catch((error: unknown) => error)
  await eventually('the call is under way', () => rig.upstream.calls.length > before)
  const stopped = rig.replica.stop()
  await eventually('it stops', async () => (await ask(rig, READYZ)).status === 503)
  process.kill(rig.replica.pid, 'SIGINT')
  t.equal(await within('it ends', stopped, 8_000), 0)
  t.ok(await running, 'the client heard')
})

t.test('a download that runs is finished before the process ends', async (t) => {
  const rig = await startRig(t)
  const session = await rig.openSession()
  const size = 15_000_000 // more than the buffers on the way hold
  const args = { filename: 'big.txt', content: 'x'.repeat(size) }
  const report = await rig.call(session, 'write_report', args)
  const url = /"download_url":"([^"]+)"/.exec(report.text)?.[1] ?? ''
  const download = new RawConnection(rig.port).send(`GET ${pathOf(url)} HTTP/1.1\r\n${HOST}\r\n`)
  await eventually('it has begun', () => download.receivedBytes > 0)
  download.socket.pause()
  const stopped = rig.replica.stop()
  await eventually('new connections are refused', () => isRefused(rig.port))
  t.ok(download.receivedBytes < size, 'it is not over yet')
  download.socket.resume()
  await download.closed()
  t.equal((await download.response()).body.length, size)
  t.equal(await stopped, 0)
})

t.test(
  'a call that does not end in time is cut with an error when the process stops',
  async (t) => {
    const rig = await startRig(t, { core: { shutdown_timeout_seconds: 1 } })
    const session = await rig.openSession()
    const before = rig.upstream.calls.length
    const running = rig.call(session, 'slow', { ms: 25_000 }).catch((error: unknown) => error)
    await eventually('the call is under way', () => rig.upstream.calls.length > before)
    const startedAtMs = Date.now()
    const code = await rig.replica.stop()
    const took = Date.now() - startedAtMs
    t.equal(code, 0)
    t.ok(took > 900 && took < 20_000, `it ended after ${took} ms`)
    t.ok(await running, 'the client heard')
  },
)

/** Whatever becomes of the test, the upstream ends and the adapter's directory goes. */
async function startRig(t: Test, sections: Parameters<typeof FileRig.start>[0] = {}) {
  const rig = await FileRig.start(sections)
  t.teardown(async () => {
    await rig.replica.kill()
    await rig.stop()
  })
  return rig
}

/** A connection that was used once, and is kept open. */
async function readyConnection(port: number): Promise<RawConnection> {
  const connection = new RawConnection(port).send(READYZ)
  await connection.response()
  return connection
}

/** One request on a connection of its own. */
async function ask(rig: FileRig, request: string) {
  const connection = new RawConnection(rig.port).send(request)
  try {
    return await connection.response()
  } finally {
    connection.destroy()
  }
}

async function put(rig: FileRig, session: string, text: string): Promise<string> {
  const answer = await rig.put(await rig.uploadUrl(session), text)
  return String(answer.json['upload_handle'])
}

function streamRequest(session: string): string {
  return `GET /mcp/files HTTP/1.1\r\n${HOST}Accept: text/event-stream\r\nMcp-Session-Id: ${session}\r\n\r\n`
}

function openStream(port: number, session: string): RawConnection {
  return new RawConnection(port).send(streamRequest(session))
}

/** Whether a connection of its own is refused; an HTTP client might use one that is open. */
function isRefused(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(false))
    socket.on('error', () => resolve(true)).on('connect', () => socket.destroy())
  })
}

function configFor(url: string): Record<string, unknown> {
  return { servers: [{ id: 'u', mount_path: '/mcp/u', upstream: { url } }] }
}
