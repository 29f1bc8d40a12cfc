/** How long a legacy client's stream lasts and how much waits for it: slow readers, stops. */
import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { LegacyWire } from '../support/legacy-client.ts'
import { startReplica } from '../support/replica.ts'
import {
  beginStream,
  event,
  idOf,
  sendResult,
  startScriptedUpstream,
} from '../support/upstreams/scripted-upstream.ts'
import { open, send, WireSession } from '../support/wire.ts'

const scripted = await startScriptedUpstream()
const replica = await startReplica({
  config: { servers: [{ id: 'a', mount_path: '/mcp/a', upstream: { url: scripted.url } }] },
})
t.teardown(async () => {
  await replica.stop()
  await scripted.stop()
})

const MOUNT = `${replica.url}/mcp/a`

t.test('a client that does not read is held back, and loses nothing', async (t) => {
  const wire = await LegacyWire.open(MOUNT)
  await wire.initialize()
  const text = 'y'.repeat(100_000)
  let sent = 0
  let isWaiting = false
  let isWritten = false
  scripted.scripts.set('tools/call flood', async (request, response) => {
    beginStream(response)
    for (; sent < 200; sent++) {
      const params = { level: 'info', data: text }
      if (response.write(event({ jsonrpc: '2.0', method: 'notifications/message', params })))
        continue
      isWaiting = true
      await new Promise((resolve) => response.once('drain', resolve))
      isWaiting = false
    }
    response.end(event({ jsonrpc: '2.0', id: idOf(request), result: { done: true } }))
    response.once('finish', () => {
      isWritten = true
    })
  })
  wire.stream.pause()
  await wire.post({ jsonrpc: '2.0', id: 70, method: 'tools/call', params: { name: 'flood' } })
  const other = await WireSession.open(MOUNT)
  await eventually('the upstream is held back, while others are served', async () => {
    const before = sent
    for (let served = 0; served < 20; served++) await other.request('ping')
    return isWaiting && sent === before
  })
  t.ok(sent < 200, `after ${sent} events`)
  wire.stream.resume()
  await eventually('the upstream has written all', () => isWritten)
  t.match(await wire.response(70), { result: { done: true } })
  t.equal(wire.messages().filter((one) => one.method === 'notifications/message').length, 200)
  wire.stream.close()
})

t.test('an unread stream does not keep the others waiting, and is cut at its cap', async (t) => {
  const wire = await LegacyWire.open(MOUNT)
  await wire.initialize()
  wire.stream.pause()
  scripted.scripts.set('tools/call big', (request) => sendResult(request, 'z'.repeat(8_000_000)))
  for (let id = 100; id < 112; id++) {
    const answer = await wire
      .post({ jsonrpc: '2.0', id, method: 'tools/call', params: { name: 'big' } })
      .catch(() => undefined)
    if (answer?.status !== 202) break
  }
  await eventually('the stream is cut, and its session ended', async () => {
    const answer = await wire.post({ jsonrpc: '2.0', method: 'notifications/x' })
    return answer.status === 404
  })
  const other = await open(`${MOUNT}/sse`, { method: 'GET' })
  t.equal(other.status, 200)
  other.close()
})
t.test(
  'a stop ends idle streams at once, busy ones with their last response, and all sessions',
  async (t) => {
    const upstream = await startScriptedUpstream()
    t.teardown(() => upstream.stop())
    const leaving = await startReplica({
      config: {
        core: { workers: 1 },
        servers: [{ id: 'a', mount_path: '/a', upstream: { url: upstream.url } }],
      },
    })
    const idle = await LegacyWire.open(`${leaving.url}/a`)
    await idle.initialize()
    const busy = await LegacyWire.open(`${leaving.url}/a`)
    await busy.initialize()
    upstream.scripts.set('tools/call slow', () => {})
    upstream.scripts.set('tools/call slow', () => {})
    await busy.post({ jsonrpc: '2.0', id: 90, method: 'tools/call', params: { name: 'slow' } })
    await eventually(
      'the call has arrived',
      () => upstream.requests('tools/call slow').length === 1,
    )
    const stopped = leaving.stop()
    t.equal(await within('the idle stream ends', idle.stream.ended), 'end')
    t.notOk(busy.stream.text().includes('late'))
    for (const request of upstream.requests('tools/call slow')) sendResult(request, { late: true })
    t.match(await busy.response(90), { result: { late: true } })
    t.equal(await within('the busy stream ends', busy.stream.ended), 'end')
    t.equal(await stopped, 0)
    t.equal(upstream.sessions.size, 0, 'both sessions were ended')
  },
)

t.test('a stop does not wait for ever for a call, and ends its session all the same', async (t) => {
  const upstream = await startScriptedUpstream()
  t.teardown(() => upstream.stop())
  const leaving = await startReplica({
    config: {
      core: { workers: 1, shutdown_timeout_seconds: 1 },
      servers: [{ id: 'a', mount_path: '/a', upstream: { url: upstream.url } }],
    },
  })
  const busy = await LegacyWire.open(`${leaving.url}/a`)
  await busy.initialize()
  upstream.scripts.set('tools/call never', () => {})
  await busy.post({ jsonrpc: '2.0', id: 91, method: 'tools/call', params: { name: 'never' } })
  await eventually('the call has arrived', () => upstream.requests('tools/call never').length === 1)
  t.equal(await leaving.stop(), 0)
  await within('the stream is over', busy.stream.ended)
  t.equal(upstream.sessions.size, 0)
})

t.test(
  'the standalone stream is opened again where it ended, and brings what was missed',
  async (t) => {
    const asked: unknown[] = []
    // Streams of upstreams without sessions are each client's own.
    const upstream = await startScriptedUpstream({ stateless: true })
    upstream.scripts.set('GET', (request, response) => {
      asked.push(request.headers['last-event-id'])
      beginStream(response)
      const params = { level: 'info', data: `news ${asked.length}` }
      response.write(
        event({ jsonrpc: '2.0', method: 'notifications/message', params }, `e${asked.length}`),
      )
      if (asked.length < 3) response.end()
    })
    const other = await startReplica({
      config: {
        servers: [
          {
            id: 'a',
            mount_path: '/mcp/a',
            upstream: { url: upstream.url, stream_linger_seconds: 0 },
          },
        ],
      },
    })
    t.teardown(async () => {
      await other.stop()
      await upstream.stop()
    })
    const wire = await LegacyWire.open(`${other.url}/mcp/a`)
    await wire.initialize()
    await wire.stream.until('news 3')
    t.same(asked, [undefined, 'e1', 'e2'])
    t.notMatch(wire.stream.text(), /^id:/m, 'ids of another stream are not shown')
    wire.stream.close()
  },
)

t.test(
  'a connected session does not expire, and every request counts for the rate limit',
  async (t) => {
    const strict = await startReplica({
      config: {
        core: {
          rate_limit: { requests_per_minute: 60, burst: 1_000 },
          cors: { enabled: true, allowed_origins: ['https://app.example'] },
        },
        sessions: { idle_ttl_seconds: 1, allow_revival: false },
        servers: [{ id: 'a', mount_path: '/mcp/a', upstream: { url: scripted.url } }],
      },
    })
    t.teardown(() => strict.stop())
    const mount = `${strict.url}/mcp/a`
    const wire = await LegacyWire.open(mount, { origin: 'https://app.example' })
    t.equal(wire.stream.headers['access-control-allow-origin'], 'https://app.example')
    await wire.initialize()
    const idle = await WireSession.open(mount)
    const isGone = async (): Promise<boolean> => {
      // To look is to use it: each look has to come after its time.
      await new Promise((resolve) => setTimeout(resolve, 1_200))
      return (await idle.request('tools/list')).status === 404
    }
    await eventually('a session that nobody uses expires', isGone)
    t.match(await wire.request(1, 'tools/list'), { result: { method: 'tools/list' } })

    let status = 202
    for (let sent = 0; sent < 1_200 && status === 202; sent++)
      status = (await wire.post({ jsonrpc: '2.0', method: 'notifications/x' })).status
    t.equal(status, 429, 'a message too many')
    const stream = await send(`${mount}/sse`, { method: 'GET' })
    t.equal(stream.status, 429, 'a stream too many')
    t.match(stream.headers['retry-after'], /^\d+$/)
    wire.stream.close()
  },
)
