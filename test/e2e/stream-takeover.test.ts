/** The upstream's standalone stream across replicas: whoever holds it may be killed, stopped, paused or left by its client, and the session lives on. */
import t from 'tap'

import { startCluster } from '../support/cluster.ts'
import { eventually, within } from '../support/eventually.ts'
import { startHeartbeatUpstream } from '../support/upstreams/heartbeat-upstream.ts'
import { messagesIn, WireSession } from '../support/wire.ts'
import type { WireStream } from '../support/wire.ts'

t.setTimeout(600_000)

/** Playwright ends a session that has no stream for about this long, in milliseconds. */
const SURVIVABLE_GAP_MS = 2_500

/** Leases end this long after their last renewal, in milliseconds. */
const LEASE_MS = 3_000

const pings = { pingEveryMs: 200, pingTimeoutMs: 300, forgives: true }
const upstream = await startHeartbeatUpstream(pings)
const lenient = await startHeartbeatUpstream({ ...pings, newestWins: true })
t.teardown(() => Promise.all([upstream.stop(), lenient.stop()]))
const cluster = await startCluster(t, {
  core: { workers: 2, shutdown_timeout_seconds: 5 },
  servers: () => [
    { id: 'browser', mount_path: '/mcp/browser', upstream: { url: upstream.url } },
    {
      id: 'held',
      mount_path: '/mcp/held',
      upstream: { url: upstream.url, hold_stream: true, static_headers: { 'x-op': 'yes' } },
    },
    { id: 'lenient', mount_path: '/mcp/lenient', upstream: { url: lenient.url } },
  ],
})

/** Waits until each replica counts all of them: one that the others never saw is missed only when its lease ends. */
async function assembled(): Promise<void> {
  for (const { url, index } of cluster.replicas) {
    // oxlint-disable-next-line no-await-in-loop -- one after the other is as good
    await eventually(`replica ${index} knows the others`, async () =>
      (await (await fetch(`${url}/healthz`)).text()).includes('"replicas_count":3'),
    )
  }
}

/** A session that is opened on the first replica, as seen through each of them, and its id at the upstream. */
async function openSession(server: string, of = upstream) {
  const opened = await WireSession.open(`${replica(0).url}/mcp/${server}`)
  const [upstreamId = ''] = [...of.sessions].slice(-1)
  return { upstreamId, on: cluster.replicas.map(({ url }) => at(url, server, opened)) }
}

function at(url: string, server: string, { id, version }: WireSession): WireSession {
  return new WireSession(`${url}/mcp/${server}`, id, version)
}

function replica(index: number) {
  const found = cluster.replicas[index]
  if (found === undefined) throw new RangeError(`no replica ${index}`)
  return found
}

function through(session: { readonly on: readonly WireSession[] }, index: number): WireSession {
  const found = session.on[index]
  if (found === undefined) throw new RangeError(`no replica ${index}`)
  return found
}

/** Waits until the holder, without a client, has read all that was sent so far: it answers a ping that came behind it. */
async function isRead(beat: { readonly answered: number }): Promise<void> {
  const { answered } = beat
  // One answer may be for a ping that was sent before.
  await eventually('pings are answered', () => beat.answered > answered + 1)
}

function note(data: string) {
  return { jsonrpc: '2.0', method: 'notifications/message', params: { data } }
}

/** What was noted on a stream, in order. */
function notesOn(stream: WireStream): unknown[] {
  return messagesIn(stream.text())
    .filter(({ method }) => method === 'notifications/message')
    .map(({ params }) => params?.['data'])
}

await assembled()

t.test('a replica that is killed loses no session, and no event that came after it', async (t) => {
  const session = await openSession('browser')
  const { upstreamId } = session
  const beat = upstream.heartbeat(upstreamId)
  const before = await through(session, 0).get()
  await eventually('the stream is open', () => upstream.isOpen(upstreamId))
  await replica(0).kill()
  await eventually('another replica has opened the stream again', () => beat.opened === 2)
  const gapMs = beat.gapsMs[0] ?? Infinity
  t.comment(`gap: ${gapMs.toFixed(0)} ms`)
  t.ok(gapMs < SURVIVABLE_GAP_MS, 'soon enough for the upstream')
  t.equal(await within('the client notices', before.ended), 'cut')
  await eventually('it is logged with its gap', () =>
    /"epoch":2,"ms":\d+,"msg":"stream taken over"/.test(cluster.logs()),
  )
  for (const index of [1, 2])
    await eventually(`replica ${index} says that one was lost`, () =>
      /"reason":"replica \S+ was lost/.test(replica(index).logs()),
    )
  t.ok(upstream.emit(upstreamId, note('missed')))
  await isRead(beat)
  const after = await through(session, 2).get()
  await after.until('missed')
  upstream.emit(upstreamId, note('live'))
  await after.until('live')
  t.same(notesOn(after), ['missed', 'live'], 'each once, in order')
  t.ok(upstream.sessions.has(upstreamId))
  t.equal((await through(session, 1).call('any')).status, 200)
  t.ok(upstream.isOpen(upstreamId), 'and the stream stays')
  await through(session, 1).delete()
  await replica(0).start()
  await assembled()
})

t.test('a client that connects to another replica takes its stream along', async (t) => {
  const session = await openSession('browser')
  const { upstreamId } = session
  const first = await through(session, 0).get()
  upstream.emit(upstreamId, note('one'))
  await first.until('one')
  const second = await through(session, 1).get()
  t.equal(second.status, 200, 'the upstream’s conflict is not the client’s')
  t.equal(await within('the old stream ends', first.ended), 'end')
  upstream.emit(upstreamId, note('two'))
  await second.until('two')
  t.same(notesOn(second), ['two'])
  second.close()
  // Its client does not answer pings: once they are answered, that it left is known, and the stream is kept for it.
  await isRead(upstream.heartbeat(upstreamId))
  t.ok(upstream.isOpen(upstreamId))
  upstream.emit(upstreamId, note('three'))
  await isRead(upstream.heartbeat(upstreamId))
  const third = await through(session, 2).get()
  await third.until('three')
  t.same(notesOn(third), ['three'])
  t.equal((await through(session, 1).delete()).status, 200)
  t.equal(await within('DELETE elsewhere ends the stream', third.ended), 'end')
  await eventually('at the upstream too', () => !upstream.isOpen(upstreamId))
})

t.test('a replica that was paused for too long finds its streams gone', async (t) => {
  const session = await openSession('lenient', lenient)
  const { upstreamId } = session
  const beat = lenient.heartbeat(upstreamId)
  const stale = await through(session, 0).get()
  await eventually('the stream is open', () => lenient.isOpen(upstreamId))
  replica(0).pause()
  try {
    await eventually('another replica has the stream', () => beat.opened === 2, 15_000)
    lenient.emit(upstreamId, note('meanwhile'))
  } finally {
    replica(0).resume()
  }
  t.equal(await within('its client is sent away', stale.ended), 'end')
  t.same(notesOn(stale), [])
  await isRead(beat)
  t.equal(beat.opened, 2, 'it was not taken back')
  const again = await through(session, 0).get()
  await again.until('meanwhile')
  t.same(notesOn(again), ['meanwhile'], 'unless a client asks for it')
  await through(session, 1).delete()
})

t.test('a replica that stops hands its streams over', async (t) => {
  const session = await openSession('browser')
  const { upstreamId } = session
  const beat = upstream.heartbeat(upstreamId)
  const before = await through(session, 0).get()
  await eventually('the stream is open', () => upstream.isOpen(upstreamId))
  const stopped = replica(0).stop()
  t.equal(await within('the client is sent away', before.ended), 'end')
  await eventually('another replica has the stream', () => beat.opened === 2)
  t.ok((beat.gapsMs[0] ?? Infinity) < SURVIVABLE_GAP_MS)
  t.comment(`gap: ${beat.gapsMs[0]?.toFixed(0)} ms`)
  upstream.emit(upstreamId, note('meanwhile'))
  await isRead(beat)
  t.equal(await stopped, 0)
  const after = await through(session, 1).get()
  await after.until('meanwhile')
  await through(session, 2).delete()
  await replica(0).start()
  await assembled()
})

t.test('a store that does not answer for a while costs no stream', async (t) => {
  const session = await openSession('browser')
  const { upstreamId } = session
  const beat = upstream.heartbeat(upstreamId)
  const stream = await through(session, 0).get()
  await eventually('the stream is open', () => upstream.isOpen(upstreamId))
  cluster.redis.pause()
  try {
    await new Promise((resolve) => setTimeout(resolve, LEASE_MS + 2_000))
    upstream.emit(upstreamId, note('during'))
    await stream.until('during')
  } finally {
    cluster.redis.resume()
  }
  await eventually('the store answers', async () => {
    const answer = await through(session, 1).call('any')
    return answer.status === 200
  })
  await new Promise((resolve) => setTimeout(resolve, LEASE_MS))
  upstream.emit(upstreamId, note('afterwards'))
  await stream.until('afterwards')
  t.equal(beat.opened, 1, 'nobody took it meanwhile')
  await through(session, 2).delete()
})

t.test('a stream can be held for a client that never opens one', async (t) => {
  const session = await openSession('held')
  const { upstreamId } = session
  const beat = upstream.heartbeat(upstreamId)
  await eventually('it is opened by itself', () => beat.opened === 1)
  t.match(beat.headers, { 'x-op': 'yes', 'mcp-protocol-version': '2025-06-18' })
  await replica(0).kill()
  await eventually('another replica has opened it again', () => beat.opened === 2)
  upstream.emit(upstreamId, note('for later'))
  await isRead(beat)
  const late = await through(session, 1).get()
  await late.until('for later')
  late.close()
  await through(session, 2).delete()
  await eventually('it ends with the session', () => !upstream.isOpen(upstreamId))
  await replica(0).start()
  await assembled()
})
