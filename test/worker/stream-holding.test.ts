/** One replica: the upstream's standalone stream outlives the client's, and what comes meanwhile is not lost. */
import { join } from 'node:path'

import t from 'tap'
import type { Test } from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { startHeartbeatUpstream } from '../support/upstreams/heartbeat-upstream.ts'
import { beginStream, event } from '../support/upstreams/scripted-upstream.ts'
import { messagesIn, WireSession } from '../support/wire.ts'
import type { WireStream } from '../support/wire.ts'
import { tempRoot } from './files-fixture.ts'
import { openShared, startMember } from './stream-fixture.ts'
import type { MemberOptions } from './stream-fixture.ts'

const PINGS = { pingEveryMs: 50, pingTimeoutMs: 200, forgives: true }

/** A replica, its upstream and a session. */
async function rig(
  t: Test,
  fields: Partial<MemberOptions> = {},
  pings: Parameters<typeof startHeartbeatUpstream>[0] = {},
) {
  const upstream = await startHeartbeatUpstream(pings)
  t.teardown(() => upstream.stop())
  const shared = await openShared(t, join(await tempRoot(t), 'state.sqlite3'))
  const member = await startMember(t, { shared, upstreamUrl: upstream.url, ...fields })
  const session = await WireSession.open(member.url)
  const [upstreamId = ''] = upstream.sessions
  return { upstream, shared, member, session, upstreamId, beat: upstream.heartbeat(upstreamId) }
}

function note(data: unknown) {
  return { jsonrpc: '2.0', method: 'notifications/message', params: { data } }
}

function notesOn(stream: WireStream): unknown[] {
  return messagesIn(stream.text())
    .filter(({ method }) => method === 'notifications/message')
    .map(({ params }) => params?.['data'])
}

t.test('what arrives without a client is there for the next one, first and in order', async (t) => {
  const { upstream, member, session, upstreamId, beat } = await rig(t, {}, PINGS)
  const first = await session.get()
  upstream.emit(upstreamId, note(0))
  await first.until('"data":0')
  first.close()
  const { answered } = beat
  await eventually('pings are answered for the client', () => beat.answered > answered + 2)
  for (let i = 1; i <= 5; i++) upstream.emit(upstreamId, note(i))
  upstream.emit(upstreamId, { jsonrpc: '2.0', id: 'q', method: 'roots/list' })
  const second = await session.get()
  upstream.emit(upstreamId, note('live'))
  await second.until('live')
  t.same(notesOn(second), [1, 2, 3, 4, 5, 'live'])
  t.match(
    messagesIn(second.text()).filter(({ method }) => method === 'roots/list'),
    [{ id: 'q' }],
    'requests are the client’s to answer',
  )
  t.equal(beat.opened, 1, 'one stream at the upstream throughout')
  t.equal(member.streams.size, 1)
  second.close()
  const third = await session.get()
  upstream.emit(upstreamId, note('again'))
  await third.until('again')
  t.same(notesOn(third), ['again'], 'nothing comes twice')
  await session.delete()
  t.equal(await within('DELETE ends the stream', third.ended), 'end')
  await eventually('at the upstream too', () => !upstream.isOpen(upstreamId))
  t.equal(member.streams.size, 0)
})

t.test('a stream passes byte for byte, whatever is in it', async (t) => {
  const { upstream, session } = await rig(t)
  const bytes = `: hello\n\nid: 1\nretry: 10\ndata:\n\n${event(note('ä'))}data: {"a":\ndata: 1}\r\n\r\n:\n\n`
  upstream.scripts.set('GET', (_request, response) => {
    beginStream(response)
    response.write(bytes)
  })
  const stream = await session.get({ 'accept-encoding': 'gzip' })
  await stream.until('\r\n\r\n:\n\n')
  t.equal(stream.text(), bytes)
  t.equal(upstream.requests('GET').at(-1)?.headers['accept-encoding'], 'identity')
  await session.delete()
})

t.test('without a client a stream is closed after its time, or at once', async (t) => {
  for (const seconds of [0, 1]) {
    const { upstream, member, session, upstreamId } = await rig(t, {
      upstream: { stream_linger_seconds: seconds },
    })
    const stream = await session.get()
    await eventually('it is open', () => upstream.isOpen(upstreamId))
    const closedAtMs = performance.now()
    stream.close()
    await eventually('it is closed', () => !upstream.isOpen(upstreamId))
    const tookMs = performance.now() - closedAtMs
    if (seconds === 1) t.ok(tookMs > 900, 'not before its time')
    t.equal(member.streams.size, 0)
    const again = await session.get()
    t.equal(again.status, 200, 'and may be opened again')
    again.close()
  }
})

t.test('a second GET beside a living one is the upstream’s to judge', async (t) => {
  const { upstream, session, upstreamId, beat } = await rig(t)
  const first = await session.get()
  await eventually('it is open', () => upstream.isOpen(upstreamId))
  const second = await session.get()
  t.equal(second.status, 409)
  upstream.emit(upstreamId, note('still here'))
  await first.until('still here')
  t.equal(beat.refused, 1, 'asked once')
})

t.test(
  'an upstream without a stream is asked for one each time, and nothing is held',
  async (t) => {
    const { upstream, member, session } = await rig(t)
    upstream.scripts.delete('GET')
    for (const round of [1, 2]) {
      const stream = await session.get()
      t.equal(stream.status, 405)
      stream.close()
      t.equal(upstream.requests('GET').length, round)
    }
    t.equal(member.streams.size, 0)
    upstream.scripts.set('GET', (_request, response) => {
      beginStream(response)
      response.write(event(note('now there is one')))
    })
    const stream = await session.get()
    await stream.until('now there is one')
  },
)

t.test(
  'a client that goes on after an event gets what followed it from the upstream',
  async (t) => {
    const { upstream, session, upstreamId } = await rig(t)
    const resumed: unknown[] = []
    const original = upstream.scripts.get('GET')
    upstream.scripts.set('GET', async (request, response) => {
      const id = request.headers['last-event-id']
      if (id === undefined || upstream.isOpen(upstreamId)) {
        await original?.(request, response)
        response.write(event(note('first'), 'e1'))
        return
      }
      resumed.push(id)
      if (id === 'e1') {
        await original?.(request, response)
        response.write(event(note('replayed'), 'e2'))
      } else response.writeHead(400).end('no such event')
    })
    const stream = await session.get()
    await stream.until('first')
    stream.close()
    upstream.emit(upstreamId, note('replayed'))
    await eventually('the client is known to be gone', async () => {
      const probe = await session.get({ 'last-event-id': 'e1' })
      probe.close()
      return probe.status === 200
    })
    const again = await session.get({ 'last-event-id': 'e1' })
    await again.until('replayed')
    t.same(notesOn(again), ['replayed'], 'not what was kept as well')
    t.ok(resumed.every((id) => id === 'e1'))
  },
)

t.test('a stream that its upstream ends is opened again for an absent client', async (t) => {
  const { upstream, session, upstreamId, beat } = await rig(t, {}, PINGS)
  const stream = await session.get()
  await eventually('it is open', () => upstream.isOpen(upstreamId))
  upstream.hangUp(upstreamId)
  t.equal(await within('a client that is there opens its own', stream.ended), 'end')
  t.equal(beat.opened, 1)
  const second = await session.get()
  t.equal(second.status, 200)
  second.close()
  await eventually('pings are answered for the client', () => beat.answered > 0)
  upstream.emit(upstreamId, note('kept'))
  upstream.hangUp(upstreamId)
  await eventually('it is open again', () => beat.opened === 3)
  const third = await session.get()
  await third.until('kept')
})

t.test('a held stream finds the session that took the place of a lost one', async (t) => {
  const { upstream, session, upstreamId } = await rig(t, { upstream: { hold_stream: true } })
  await eventually('it is open without a client', () => upstream.isOpen(upstreamId))
  upstream.sessions.delete(upstreamId)
  upstream.hangUp(upstreamId)
  t.equal((await session.call('any')).status, 200, 'the call initialised it again')
  const [next = ''] = upstream.sessions
  t.not(next, upstreamId)
  await eventually('its stream is open', () => upstream.isOpen(next))
})

t.test('the client’s own headers go along only while its worker has them', async (t) => {
  const fields = { upstream: { client_headers: { passthrough: ['X-Key'] } } }
  const { upstream, session, upstreamId, beat, shared } = await rig(t, fields, PINGS)
  const stream = await session.get({ 'x-key': 'mine' })
  await eventually('it is open', () => upstream.isOpen(upstreamId))
  stream.close()
  await eventually('a ping is answered', () => beat.answered > 2)
  t.equal(upstream.requests('response').at(-1)?.headers['x-key'], 'mine')
  const other = await startMember(t, { shared, upstreamUrl: upstream.url, ...fields })
  shared.clock.aheadMs += 10_000
  other.streams.replicasLost(['replica-'])
  await eventually('another has it', () => beat.opened === 2)
  t.equal(beat.headers['x-key'], undefined)
  await other.see(session).delete()
})

t.test('when everything is refused the client hears why', async (t) => {
  const { upstream, member, session } = await rig(t)
  upstream.scripts.set('GET', (_request, response) => {
    response.writeHead(403, { 'content-type': 'application/json' }).end('{"error":"no"}')
  })
  const refused = await session.get()
  t.equal(refused.status, 403)
  await refused.until('{"error":"no"}')
  t.equal(member.streams.size, 0)
  upstream.sessions.clear()
  upstream.scripts.set('initialize', (_request, response) => void response.writeHead(400).end())
  const lost = await session.get()
  t.equal(lost.status, 404)
  await upstream.stop()
  t.equal((await session.get()).status, 502)
})

t.test(
  'a GET after an event that only the old stream knew takes that stream’s place',
  async (t) => {
    const { upstream, session, upstreamId, shared } = await rig(t)
    const original = upstream.scripts.get('GET')
    upstream.scripts.set('GET', async (request, response) => {
      const isOpen = upstream.isOpen(upstreamId)
      await original?.(request, response)
      if (!isOpen) response.write(event(note(request.headers['last-event-id'] ?? 'new'), 'e7'))
    })
    const first = await session.get()
    await first.until('new')
    const other = await startMember(t, { shared, upstreamUrl: upstream.url })
    const second = await other.see(session).get({ 'last-event-id': 'e3' })
    t.equal(second.status, 200, 'the conflict was with a stream of ours')
    await second.until('"e3"')
    t.equal(await within('the old one ends', first.ended), 'end')
  },
)

t.test('while the store is away a client is asked to come again', async (t) => {
  const { upstream, member, session, upstreamId } = await rig(t)
  t.equal((await session.call('any')).status, 200)
  await member.store.close()
  const stream = await session.get()
  t.equal(stream.status, 503)
  await stream.until('ADAPTER_STATE_UNAVAILABLE')
  await eventually('nothing is left open', () => !upstream.isOpen(upstreamId))
})
