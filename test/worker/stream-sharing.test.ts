/** Several replicas in one process: leases that are lost, forgotten, abandoned by the hundred, or left by a worker that died. */
import { join } from 'node:path'

import t from 'tap'
import type { Test } from 'tap'

import { parseSessionId } from '../../src/shared/ids.ts'
import { eventually, within } from '../support/eventually.ts'
import { startHeartbeatUpstream } from '../support/upstreams/heartbeat-upstream.ts'
import { messagesIn, WireSession } from '../support/wire.ts'
import type { WireStream } from '../support/wire.ts'
import { tempRoot } from './files-fixture.ts'
import { openShared, startMember } from './stream-fixture.ts'
import type { Member, MemberOptions } from './stream-fixture.ts'

t.setTimeout(600_000)

/** Replicas on one store and one upstream. */
async function rig(t: Test, count: number, fields: Partial<MemberOptions> = {}) {
  const upstream = await startHeartbeatUpstream({ pingEveryMs: 50, forgives: true })
  t.teardown(() => upstream.stop())
  const shared = await openShared(t, join(await tempRoot(t), 'state.sqlite3'))
  const start = (more: Partial<MemberOptions> = {}): Promise<Member> =>
    startMember(t, { shared, upstreamUrl: upstream.url, ...fields, ...more })
  const members = await Promise.all(Array.from({ length: count }, () => start()))
  const open = async (member: Member) => {
    const session = await WireSession.open(member.url)
    const [upstreamId = ''] = [...upstream.sessions].slice(-1)
    return { session, upstreamId, beat: upstream.heartbeat(upstreamId) }
  }
  return { upstream, shared, members, start, open }
}

/** The first of a list that a test knows to be long enough. */
function first<T>(list: readonly T[]): T {
  const [one] = list
  if (one === undefined) throw new RangeError('the list is empty')
  return one
}

function keyOf(session: WireSession) {
  const sessionId = parseSessionId(session.id)
  if (sessionId === undefined) throw new Error('it is an id of ours')
  return { serverId: 'srv', sessionId } as const
}

function note(data: unknown) {
  return { jsonrpc: '2.0', method: 'notifications/message', params: { data } }
}

function notesOn(stream: WireStream): unknown[] {
  return messagesIn(stream.text())
    .filter(({ method }) => method === 'notifications/message')
    .map(({ params }) => params?.['data'])
}

t.test(
  'of many replicas one takes each stream that was left, and all share the work',
  async (t) => {
    const { members, open } = await rig(t, 4)
    const [holder = first(members), ...others] = members
    const sessions: (Awaited<ReturnType<typeof open>> & { stream: WireStream })[] = []
    for (let i = 0; i < 120; i++) {
      // oxlint-disable-next-line no-await-in-loop -- the upstream names sessions in the order of arrival
      const opened = await open(holder)
      // oxlint-disable-next-line no-await-in-loop -- see above
      const stream = await opened.session.get()
      sessions.push({ ...opened, stream })
    }
    await eventually('all are open', () => holder.streams.size === sessions.length)
    await holder.crash()
    for (const { streams } of others) streams.replicasLost([holder.id])
    await eventually('all are open again', () => sessions.every(({ beat }) => beat.opened === 2))
    const held = others.map(({ streams }) => streams.size)
    t.equal(
      held.reduce((sum, count) => sum + count, 0),
      sessions.length,
      `held by ${held.join(', ')}`,
    )
    t.ok(
      held.every((count) => count > 0),
      'by more than one',
    )
    t.ok(sessions.every(({ beat }) => beat.opened === 2 && beat.refused === 0))
    const gaps = () =>
      others.flatMap(({ log }) =>
        log.filter(({ text }) => text === 'stream taken over').map(({ fields }) => fields['ms']),
      )
    // The upstream knows of its stream a moment before the replica that has opened it does.
    await eventually('each is told of', () => gaps().length === sessions.length)
    t.ok(gaps().every((ms) => Number(ms) < 5_000))
  },
)

t.test('a lease that nobody renews is noticed without anybody saying so', async (t) => {
  const { upstream, shared, members, open } = await rig(t, 2)
  const [holder = first(members), other = first(members)] = members
  const { session, upstreamId, beat } = await open(holder)
  const stream = await session.get()
  await eventually('it is open', () => upstream.isOpen(upstreamId))
  await holder.crash()
  shared.clock.aheadMs += 10_000
  await eventually('it is open again', () => beat.opened === 2)
  t.equal(other.streams.size, 1)
  t.ok(['cut', 'end'].includes(await stream.ended))
})

t.test('what was kept under an old lease reaches the client wherever it comes', async (t) => {
  const { upstream, members, open } = await rig(t, 3)
  const [a = first(members), b = first(members), c = first(members)] = members
  const { session, upstreamId, beat } = await open(a)
  const before = await session.get()
  await eventually('it is open', () => upstream.isOpen(upstreamId))
  before.close()
  await eventually('pings are answered for the client', () => beat.answered > 0)
  upstream.emit(upstreamId, note('on a'))
  const { answered } = beat
  await eventually('it is stored', () => beat.answered > answered + 2)
  await a.crash()
  for (const { streams } of [b, c]) streams.replicasLost([a.id])
  await eventually('it is open again', () => beat.opened === 2)
  upstream.emit(upstreamId, note('on b or c'))
  const after = await c.see(session).get()
  await after.until('on b or c')
  t.same(notesOn(after), ['on a', 'on b or c'])
})

t.test('what the former holder had received reaches the client of the next one', async (t) => {
  const { upstream, shared, members, open } = await rig(t, 2)
  const [a = first(members), b = first(members)] = members
  const { session, upstreamId } = await open(a)
  const before = await session.get()
  await eventually('it is open', () => upstream.isOpen(upstreamId))
  const after = await b.see(session).get()
  t.equal(await within('the former stream ends', before.ended), 'end')
  upstream.emit(upstreamId, note('live'))
  await after.until('live')
  const probe = shared.connect()
  t.teardown(() => probe.close())
  const leftover = JSON.stringify(note('left over'))
  t.notOk(await probe.keepEvents(keyOf(session), 1, [leftover]), 'the first holder is no more')
  await after.until('left over')
  t.same(notesOn(after), ['live', 'left over'])
})

t.test('a store that has forgotten the leases takes no stream away', async (t) => {
  const { upstream, shared, members, open } = await rig(t, 1)
  const { session, upstreamId, beat } = await open(first(members))
  const stream = await session.get()
  await eventually('it is open', () => upstream.isOpen(upstreamId))
  await shared.forgetLeases()
  const probe = shared.connect()
  t.teardown(() => probe.close())
  const key = keyOf(session)
  t.notOk(await probe.keepEvents(key, 1, []), 'they are forgotten')
  await eventually('the lease is there again', () => probe.keepEvents(key, 1, []))
  upstream.emit(upstreamId, note('still here'))
  await stream.until('still here')
  t.equal(beat.opened, 1)
})

t.test('a worker in place of one that died takes its streams, and no others', async (t) => {
  const { upstream, members, start, open } = await rig(t, 2)
  const [holder = first(members), other = first(members)] = members
  const { session, upstreamId, beat } = await open(holder)
  const mine = await session.get()
  const theirs = await open(other)
  const stream = await theirs.session.get()
  await eventually('both are open', () =>
    [upstreamId, theirs.upstreamId].every((id) => upstream.isOpen(id)),
  )
  await holder.crash()
  await mine.ended
  const replacement = await start({ id: holder.id, isReplacement: true })
  await eventually('its streams are open again', () => beat.opened === 2)
  t.equal(replacement.streams.size, 1)
  t.equal(theirs.beat.opened, 1)
  upstream.emit(theirs.upstreamId, note('undisturbed'))
  await stream.until('undisturbed')
})

t.test('streams that are handed over are found also when nobody hears of it', async (t) => {
  const { upstream, members, open } = await rig(t, 2)
  const [leaving = first(members), staying = first(members)] = members
  const { session, upstreamId, beat } = await open(leaving)
  const stream = await session.get()
  await eventually('it is open', () => upstream.isOpen(upstreamId))
  await leaving.streams.handOver()
  t.equal(await within('the client is sent away', stream.ended), 'end')
  await eventually('the other has it', () => beat.opened === 2)
  upstream.emit(upstreamId, note('for later'))
  const after = await staying.see(session).get()
  await after.until('for later')
  t.equal(leaving.streams.size, 0)
})

t.test('a client’s own stream ends with its session, wherever that is ended', async (t) => {
  const { upstream, members, open } = await rig(t, 2)
  const [a = first(members), b = first(members)] = members
  const { session, upstreamId } = await open(a)
  const original = upstream.scripts.get('GET')
  // A stream of a call that goes on is beside the standalone one.
  upstream.scripts.set('GET', (request, response) => {
    if (request.headers['last-event-id'] === undefined) return original?.(request, response)
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write(': goes on\n\n')
    return undefined
  })
  const standalone = await session.get()
  const beside = await b.see(session).get({ 'last-event-id': 'of a call' })
  await beside.until('goes on')
  t.ok(upstream.isOpen(upstreamId), 'it took nothing from the other')
  await a.see(session).delete()
  t.equal(await within('the one here ends', standalone.ended), 'end')
  t.equal(await within('the one there ends', beside.ended), 'end')
})
