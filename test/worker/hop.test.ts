/** What is bound to a connection of one worker, asked for through another worker or replica. */
import t from 'tap'

import { AdapterError } from '../../src/shared/errors.ts'
import { PROOF_HEADER } from '../../src/shared/hop-seal.ts'
import { parsePlacedId } from '../../src/shared/place.ts'
import { eventually, within } from '../support/eventually.ts'
import {
  answering,
  Gossip,
  MemoryUpstream,
  pair,
  post,
  silent,
  startHopReplica,
} from './hop-fixture.ts'
import type { SeenCall } from './hop-fixture.ts'
import { Witness } from './upstream-fixture.ts'

t.setTimeout(120_000)

const EVENTS = ['content-type', 'text/event-stream'] as const

function headerOf(headers: readonly string[], name: string): string | undefined {
  const at = headers.findIndex((text, index) => index % 2 === 0 && text === name)
  return at === -1 ? undefined : headers[at + 1]
}

t.test('a session that is opened here is known by an id that says where it is', async (t) => {
  const { holder, local } = await pair(t, ({ listener }) => {
    listener.head(200, ['content-type', 'application/json', 'mcp-session-id', 'its!own~id'])
    listener.end()
  })
  const witness = new Witness()
  holder.upstream.call(
    { method: 'POST', headers: ['accept', 'application/json'], body: '{}', isSafe: false },
    witness,
  )
  await within('it is answered', witness.over)
  const placed = parsePlacedId(headerOf(witness.headers, 'mcp-session-id') ?? '')
  t.same(placed, { place: { replicaId: holder.replicaId, worker: 0 }, id: 'its!own~id' })
  const again = new Witness()
  holder.upstream.call(post(holder, { id: 'its!own~id' }), again)
  await within('it is answered', again.over)
  t.equal(headerOf(local.calls[1]?.request.headers ?? [], 'mcp-session-id'), 'its!own~id')
})

t.test('another replica is answered as if the connection were its own', async (t) => {
  const { holder, other, local } = await pair(t, ({ listener }) => {
    listener.head(202, [
      'content-type',
      'application/json',
      'mcp-thing',
      'x',
      'www-authenticate',
      'Bearer',
    ])
    listener.data(Buffer.from('{"first":'))
    listener.data(Buffer.from('"piece"}'))
    listener.end()
  })
  const witness = new Witness()
  const body = Buffer.from('{"text":"grüße"}')
  other.upstream.call({ ...post(holder), body, isSafe: true, isFollowUp: true }, witness)
  await within('it is answered', witness.over)
  t.equal(witness.status, 202)
  t.equal(witness.body.toString(), '{"first":"piece"}')
  t.equal(headerOf(witness.headers, 'mcp-thing'), 'x')
  t.equal(headerOf(witness.headers, 'www-authenticate'), 'Bearer')
  t.equal(headerOf(witness.headers, PROOF_HEADER), undefined, 'what is said on the hop stays there')
  t.equal(headerOf(witness.headers, 'x-mcp-hop-outcome'), undefined)
  const [seen] = local.calls
  t.equal(seen?.request.method, 'POST')
  t.equal(seen?.request.isSafe, true)
  t.equal(seen?.request.isFollowUp, true, 'and goes on with what is under way')
  t.equal(Buffer.from(seen?.request.body ?? '').toString(), '{"text":"grüße"}')
  t.same(seen?.request.headers, ['content-type', 'application/json', 'mcp-session-id', 'session-1'])
})

t.test('an error says when to try again, as it would where it was made', async (t) => {
  const refusal = new AdapterError('ADAPTER_UPSTREAM_DOWN', 'down', { retryAfterSeconds: 17 })
  const { holder, other } = await pair(t, ({ listener }) => listener.error(refusal))
  const witness = new Witness()
  other.upstream.call(post(holder), witness)
  await within('it is answered', witness.over)
  t.match(witness.errors[0], { code: 'ADAPTER_UPSTREAM_DOWN', retryAfterSeconds: 17 })
})

t.test('a request without a body, and one that is large, arrive as they are', async (t) => {
  const { holder, other, local } = await pair(t, answering('{}'))
  const large = Buffer.alloc(1_000_000, 'x')
  for (const request of [
    { ...post(holder), method: 'DELETE', body: null } as const,
    { ...post(holder), body: large },
  ]) {
    const witness = new Witness()
    other.upstream.call(request, witness)
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await within('it is answered', witness.over)
    t.equal(witness.status, 200)
  }
  t.equal(local.calls[0]?.request.body, null)
  t.equal(local.calls[0]?.request.method, 'DELETE')
  t.ok(large.equals(Buffer.from(local.calls[1]?.request.body ?? '')))
})

t.test('a worker asks another worker of its own replica', async (t) => {
  const gossip = new Gossip()
  const first = new MemoryUpstream(answering('"first"'))
  const second = new MemoryUpstream(answering('"second"'))
  const replica = await startHopReplica(t, gossip, [first, second])
  const witness = new Witness()
  replica.upstream.call(post(replica, { worker: 1 }), witness)
  await within('it is answered', witness.over)
  t.equal(witness.body.toString(), '"second"')
  t.equal(first.calls.length, 0)
})

t.test('a replica that shares nothing knows no sessions of an earlier life', async (t) => {
  const gossip = new Gossip()
  const replica = await startHopReplica(t, gossip, [new MemoryUpstream(silent)], { isSecret: true })
  const witness = new Witness()
  replica.upstream.call(post({ ...replica, replicaId: 'AnEarlierLife' }), witness)
  await within('it is answered', witness.over)
  t.equal(witness.status, 404)
  t.match(witness.body.toString(), /ADAPTER_SESSION_UNKNOWN/)
})

t.test('an id of another transport names no session', async (t) => {
  const { other } = await pair(t, silent)
  const witness = new Witness()
  const headers = ['mcp-session-id', '0b9e6a52-upstream']
  other.upstream.call({ method: 'POST', headers, body: '{}', isSafe: false }, witness)
  t.equal(witness.heads, 0, 'nothing is answered inside the call')
  await within('it is answered', witness.over)
  t.equal(witness.status, 404)
  const aborted = new Witness()
  other.upstream.call({ method: 'POST', headers, body: '{}', isSafe: false }, aborted).abort()
  const last = new Witness()
  other.upstream.call({ method: 'POST', headers, body: '{}', isSafe: false }, last)
  await within('a later one is answered', last.over)
  t.equal(aborted.heads, 0)
})

t.test('events come one by one, and the end of a client reaches the connection', async (t) => {
  const { holder, other, local } = await pair(t, ({ listener }) => {
    listener.head(200, EVENTS)
    listener.data(Buffer.from('data: 1\n\n'))
  })
  const witness = new Witness()
  const call = other.upstream.call({ ...post(holder), method: 'GET', body: null }, witness)
  await eventually('the first event is there', () =>
    witness.body.toString().includes('data: 1\n\n'),
  )
  t.equal(witness.ends, 0)
  local.calls[0]?.listener.data(Buffer.from('data: 2\n\n'))
  await eventually('the second follows', () => witness.body.toString().includes('data: 2\n\n'))
  call.abort()
  await eventually('it is aborted there', () => local.calls[0]?.isAborted === true)
  t.equal(witness.ends + witness.errors.length, 0, 'after an abort nothing is told')
})

t.test('a stream without events has a head', async (t) => {
  const { holder, other } = await pair(t, ({ listener }) => listener.head(200, EVENTS))
  const witness = new Witness()
  other.upstream.call({ ...post(holder), method: 'GET', body: null }, witness)
  await eventually('the head is there', () => witness.status === 200)
})

t.test('a slow reader holds the connection, and nothing in between grows', async (t) => {
  const chunk = Buffer.alloc(65_536, 'x')
  let sent = 0
  const pump = (call: SeenCall): void => {
    if (call.isAborted) return
    // What a transport reads in one turn.
    for (let i = 0; i < 4 && !call.isPaused; i++) {
      call.listener.data(Buffer.from(chunk))
      sent += chunk.byteLength
    }
    setImmediate(() => pump(call))
  }
  const { holder, other, local } = await pair(t, (call) => {
    call.listener.head(200, ['content-type', 'application/json'])
    pump(call)
  })
  const witness = new Witness()
  const call = other.upstream.call(post(holder), witness)
  await eventually('it comes', () => witness.bytes > 1_000_000)
  call.pause()
  await eventually('the connection is held', () => local.calls[0]?.isPaused === true)
  const between = sent - witness.bytes
  t.ok(between < 64 * 1_048_576, `${between} bytes between both`)
  const before = witness.bytes
  call.resume()
  await eventually('it goes on', () => witness.bytes > before + between + 1_000_000)
  call.abort()
  await eventually('it ends', () => local.calls[0]?.isAborted === true)
})

t.test('an error of the connection is told under its own code', async (t) => {
  const { holder, other } = await pair(t, ({ listener }) =>
    listener.error(new AdapterError('ADAPTER_UPSTREAM_TIMEOUT', 'it was silent')),
  )
  const witness = new Witness()
  other.upstream.call(post(holder), witness)
  await within('it fails', witness.over)
  t.equal(witness.code, 'ADAPTER_UPSTREAM_TIMEOUT')
  t.equal(witness.errors[0]?.message, 'it was silent')
  t.equal(witness.heads, 0)
})

t.test('an answer that breaks off there breaks off here', async (t) => {
  const { holder, other } = await pair(t, ({ listener }) => {
    listener.head(200, EVENTS)
    listener.data(Buffer.from('data: 1\n\n'))
    setImmediate(() => listener.error(new AdapterError('ADAPTER_UPSTREAM_UNREACHABLE', 'gone')))
  })
  const witness = new Witness()
  other.upstream.call(post(holder), witness)
  await within('it fails', witness.over)
  t.equal(witness.status, 200)
  t.equal(witness.code, 'ADAPTER_UPSTREAM_UNREACHABLE')
  t.equal(witness.ends, 0)
})

t.test('a server that the holder does not have is an error', async (t) => {
  const { holder, other } = await pair(t, silent)
  const witness = new Witness()
  other.client.forward(
    { replicaId: holder.replicaId, worker: 0 },
    {
      kind: 'upstream',
      serverId: 'another',
      method: 'POST',
      headers: [],
      isSafe: false,
      isFollowUp: false,
    },
    '{}',
    witness,
  )
  await within('it fails', witness.over)
  t.equal(witness.code, 'ADAPTER_UPSTREAM_UNREACHABLE')
})

t.test('a session of a replica that is lost is lost at once', async (t) => {
  const { gossip, holder, other, local } = await pair(t, answering('{}'))
  gossip.lose(holder.replicaId)
  const witness = new Witness()
  other.upstream.call(post(holder), witness)
  await within('it is answered', witness.over)
  t.equal(witness.status, 404)
  t.equal(local.calls.length, 0, 'nobody was asked')
})

t.test('who hears that a session is lost, and aborts, hears no more', async (t) => {
  const { gossip, holder, other } = await pair(t, answering('{}'))
  gossip.lose(holder.replicaId)
  const requests = [
    post(holder),
    { method: 'POST', headers: ['mcp-session-id', 'no-place'], body: '{}', isSafe: false } as const,
  ]
  for (const request of requests) {
    const witness = new Witness({ head: () => call.abort() })
    const call = other.upstream.call(request, witness)
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await eventually('the head is there', () => witness.heads === 1)
    const later = new Witness()
    other.upstream.call(request, later)
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await within('a later one is answered', later.over)
    t.equal(witness.bytes + witness.ends, 0)
  }
})

t.test(
  'what was given up of a replica that was only paused is ended when it is back',
  async (t) => {
    const { gossip, holder, other, local } = await pair(t, answering('{}'))
    gossip.lose(holder.replicaId)
    const witness = new Witness()
    other.upstream.call(post(holder, { id: 'given-up' }), witness)
    await within('it is answered', witness.over)
    gossip.appear(holder.replicaId, holder.url)
    await eventually('it is ended there', () => local.calls.length === 1)
    t.equal(local.calls[0]?.request.method, 'DELETE')
    t.same(local.calls[0]?.request.headers, ['mcp-session-id', 'given-up'])
  },
)

t.test('a replica that was only paused is asked again', async (t) => {
  const { gossip, holder, other } = await pair(t, answering('"back"'))
  gossip.lose(holder.replicaId)
  gossip.appear(holder.replicaId, holder.url)
  const witness = new Witness()
  other.upstream.call(post(holder), witness)
  await within('it is answered', witness.over)
  t.equal(witness.body.toString(), '"back"')
})

t.test(
  'a replica that nobody has heard of yet is waited for, and one that never comes is gone',
  async (t) => {
    const gossip = new Gossip()
    const fresh = await startHopReplica(t, gossip, [new MemoryUpstream(answering('"new"'))], {
      isSecret: true,
    })
    const other = await startHopReplica(t, gossip, [new MemoryUpstream(silent)])
    const witness = new Witness()
    other.upstream.call(post(fresh), witness)
    gossip.appear(fresh.replicaId, fresh.url)
    await within('it is answered', witness.over)
    t.equal(witness.body.toString(), '"new"')
    const never = new Witness()
    other.upstream.call(post({ ...fresh, replicaId: 'NobodyKnows' }), never)
    await within('it is answered', never.over)
    t.equal(never.status, 404)
  },
)

t.test('calls that a lost replica had in hand fail, also where no connection ends', async (t) => {
  const { gossip, holder, other, local } = await pair(t, ({ request, listener }) => {
    if (request.method === 'GET') listener.head(200, EVENTS)
  })
  const waiting = new Witness()
  const streaming = new Witness()
  other.upstream.call(post(holder), waiting)
  other.upstream.call({ ...post(holder), method: 'GET', body: null }, streaming)
  await eventually('both are under way', () => local.calls.length === 2 && streaming.heads === 1)
  gossip.lose(holder.replicaId)
  await within('both end', Promise.all([waiting.over, streaming.over]))
  t.equal(waiting.code, 'ADAPTER_UPSTREAM_UNREACHABLE')
  t.match(waiting.errors[0]?.message, /not known/)
  t.equal(streaming.code, 'ADAPTER_UPSTREAM_UNREACHABLE')
})

t.test(
  'a replica that refuses connections and is then known to be gone has lost the session',
  async (t) => {
    const { gossip, holder, other } = await pair(t, answering('{}'))
    holder.close()
    const witness = new Witness()
    other.upstream.call(post(holder), witness)
    setTimeout(() => gossip.lose(holder.replicaId), 50)
    await within('it is answered', witness.over)
    t.equal(witness.status, 404)
  },
)

t.test(
  'a request that comes just after the end of a replica is not taken for one that it had in hand',
  async (t) => {
    const { gossip, holder, other } = await pair(t, answering('{}'))
    const first = new Witness()
    other.upstream.call(post(holder), first)
    await within('a connection is there', first.over)
    holder.close()
    // In the same turn: nobody has heard yet that the connection is closed.
    const second = new Witness()
    other.upstream.call(post(holder), second)
    setTimeout(() => gossip.lose(holder.replicaId), 200)
    await within('it is answered', second.over)
    t.equal(second.status, 404)
  },
)

t.test(
  'one that refuses connections and is there all the same is an error, within a bound',
  async (t) => {
    const { holder, other } = await pair(t, answering('{}'))
    holder.close()
    const witness = new Witness()
    other.upstream.call(post(holder), witness)
    await within('it fails', witness.over)
    t.equal(witness.code, 'ADAPTER_UPSTREAM_UNREACHABLE')
    t.equal(witness.heads, 0)
  },
)

t.test('a worker that ends fails what it had in hand, and holds nothing afterwards', async (t) => {
  const { holder, other, local } = await pair(t, silent)
  const witness = new Witness()
  other.upstream.call(post(holder), witness)
  await eventually('it is under way', () => local.calls.length === 1)
  holder.crashWorker(0)
  await within('it fails', witness.over)
  t.equal(witness.code, 'ADAPTER_UPSTREAM_UNREACHABLE')
  const later = new Witness()
  other.upstream.call(post(holder), later)
  await within('it is answered', later.over)
  t.equal(later.status, 404, 'its connections ended with it')
})

t.test('the holder hears of what was waited for in vain, and not of who just left', async (t) => {
  const { holder, other, local } = await pair(t, ({ request, listener }) => {
    if (Buffer.from(request.body ?? '').toString() === '"stream"') listener.head(200, EVENTS, true)
  })
  const aborted = async (body: string, waitedMs?: number): Promise<SeenCall | undefined> => {
    const witness = new Witness()
    const { length } = local.calls
    const call = other.upstream.call(post(holder, { body }), witness)
    await eventually('it is there', () => local.calls.length > length)
    if (body === '"stream"') await eventually('it has begun', () => witness.heads === 1)
    call.abort(waitedMs)
    const seen = local.calls[length]
    await eventually('it is given up', () => seen?.isAborted === true)
    t.equal(witness.errors.length + witness.ends, 0, 'nothing is told after an abort')
    return seen
  }
  t.equal((await aborted('"call"', 60_000))?.waitedMs, 60_000)
  t.equal((await aborted('"stream"', 1_500))?.waitedMs, 1_500, 'a head may be of the holder')
  t.equal((await aborted('"call"'))?.waitedMs, undefined)
})

t.test('a stop ends streams and finishes calls', async (t) => {
  const { holder, other, local } = await pair(t, ({ request, listener }) => {
    if (request.method === 'GET') listener.head(200, EVENTS)
  })
  const streaming = new Witness()
  const calling = new Witness()
  other.upstream.call({ ...post(holder), method: 'GET', body: null }, streaming)
  other.upstream.call(post(holder), calling)
  await eventually('both are under way', () => local.calls.length === 2 && streaming.heads === 1)
  holder.endpoints[0]?.closeStreams()
  await within('the stream ends', streaming.over)
  t.equal(streaming.ends, 1, 'in order')
  const another = new Witness()
  other.upstream.call({ ...post(holder), method: 'GET', body: null }, another)
  await within('another is refused', another.over)
  t.equal(another.code, 'ADAPTER_STOPPING')
  const call = local.calls.find(({ request }) => request.method === 'POST')
  if (call !== undefined) answering('"done"')(call)
  await within('the call is answered', calling.over)
  t.equal(calling.body.toString(), '"done"')
})
