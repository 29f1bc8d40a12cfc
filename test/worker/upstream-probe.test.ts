// What real servers answer to a ping, and that it makes nothing there.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { clientOptions } from '../../src/worker/upstream/client-options.ts'
import { StreamableHttpUpstream } from '../../src/worker/upstream/streamable-http.ts'
import { load } from '../shared/config-loading.ts'
import { within } from '../support/eventually.ts'
import { startEverythingServer } from '../support/upstreams/everything-server.ts'
import { startFileServer } from '../support/upstreams/file-server.ts'
import { startPlaywright } from '../support/upstreams/playwright.ts'
import { answerOf, startRawServer } from './upstream-fixture.ts'
import type { Answerer } from './upstream-fixture.ts'

t.setTimeout(60_000)

function upstreamAt(url: string, more = ''): StreamableHttpUpstream {
  const { servers } = load(
    `servers: [{id: one, mount_path: /one, upstream: {url: ${JSON.stringify(url)}${more}}}]`,
  )
  const [server] = servers
  if (server === undefined) throw new Error('there is one')
  return new StreamableHttpUpstream(
    clientOptions(server.upstream, () => {}),
    false,
  )
}

/** Pings ten times. */
async function ping(url: string): Promise<void> {
  const upstream = upstreamAt(url)
  // oxlint-disable-next-line no-await-in-loop -- one after the other, as they come
  for (let n = 0; n < 10; n++) await upstream.probe(20_000)
  await upstream.close()
}

const directory = await mkdtemp(join(tmpdir(), 'adapter-probe-'))
t.teardown(() => rm(directory, { recursive: true, force: true }))

t.test('a server on the SDK 2.x, with sessions and without, is alive and opens none', async (t) => {
  const server = await startEverythingServer()
  t.teardown(() => server.stop())
  await ping(server.url)
  t.same(server.sessionIds(), [])
})

for (const stateless of [false, true]) {
  t.test(
    `a server on the SDK 1.x ${stateless ? 'without' : 'with'} sessions is alive and opens none`,
    async (t) => {
      const server = await startFileServer({ workspace: directory, stateless })
      t.teardown(() => server.stop())
      await ping(server.url)
      t.equal(server.sessions(), 0)
    },
  )
}

t.test('Playwright is alive', async (t) => {
  const server = await startPlaywright(directory)
  t.teardown(() => server.stop())
  await ping(server.url)
  t.pass()
})

for (const [what, answer, code] of [
  ['a 5xx', 'HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n', 'ADAPTER_UPSTREAM_DOWN'],
  ['no HTTP', '220 mail.example ESMTP\r\n\r\n', 'ADAPTER_UPSTREAM_INVALID'],
] as const) {
  t.test(`${what} is no sign of life`, async (t) => {
    const server = await startRawServer((socket) => void socket.write(answer))
    const upstream = upstreamAt(`http://127.0.0.1:${server.port}/mcp`)
    t.teardown(async () => {
      await upstream.close()
      await server.stop()
    })
    await t.rejects(upstream.probe(5_000), { code })
  })
}

t.test('the time limit holds before the head, and no connection is left', async (t) => {
  const server = await startRawServer(() => {})
  const upstream = upstreamAt(`http://127.0.0.1:${server.port}/mcp`)
  t.teardown(async () => {
    await upstream.close()
    await server.stop()
  })
  await t.rejects(within('the limit', upstream.probe(100)), { code: 'ADAPTER_UPSTREAM_TIMEOUT' })
  await t.rejects(within('the limit', upstream.probe(100)), { code: 'ADAPTER_UPSTREAM_TIMEOUT' })
  t.ok(server.open() <= 1)
})

t.test('nobody listens: it fails at once', async (t) => {
  const server = await startRawServer(() => {})
  await server.stop()
  const upstream = upstreamAt(`http://127.0.0.1:${server.port}/mcp`)
  t.teardown(() => upstream.close())
  await t.rejects(upstream.probe(20_000), { code: 'ADAPTER_UPSTREAM_UNREACHABLE' })
})

/** Begins an answer that never ends. */
const endless: Answerer = (socket) => {
  socket.write('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n')
  const drip = setInterval(() => socket.write(Buffer.alloc(65_536)), 1)
  socket.on('close', () => clearInterval(drip))
}

t.test('a head is enough, and an answer without end holds nothing up', async (t) => {
  const server = await startRawServer(endless)
  const upstream = upstreamAt(`http://127.0.0.1:${server.port}/mcp`)
  t.teardown(async () => {
    await upstream.close()
    await server.stop()
  })
  // One connection is allowed: the second waits for the first to be given up.
  await upstream.probe(20_000)
  await upstream.probe(20_000)
  t.ok(server.open() <= 1)
})

t.test('it has the static headers, and all connections to be taken says nothing', async (t) => {
  const server = await startRawServer((socket, { head }) => {
    if (head.includes('adapter-hang')) return
    socket.write(answerOf(''))
  })
  const upstream = upstreamAt(
    `http://127.0.0.1:${server.port}/mcp`,
    ', max_connections: 1, static_headers: {X-Key: secret, Accept: text/plain}',
  )
  t.teardown(async () => {
    await upstream.close()
    await server.stop()
  })
  const call = upstream.call(
    { method: 'POST', headers: ['x-a', 'adapter-hang'], body: 'x', isSafe: false },
    { head: () => {}, data: () => {}, end: () => {}, error: () => {} },
  )
  await upstream.probe(20_000)
  call.abort()
  const head = server.requests.map((request) => request.head).find((one) => /X-Key/i.test(one))
  t.match(head, /X-Key: secret/i)
  t.equal(head?.match(/^accept:/gim)?.length, 1)
  t.match(head, /accept: application\/json, text\/event-stream/i)
})
