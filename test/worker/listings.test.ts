// The memory of listings by itself: its bounds, and what happens around one fetch that several wait for.

import t from 'tap'

import { aroundId, withId } from '../../src/worker/exchange/known-answers.ts'
import type { Around } from '../../src/worker/exchange/known-answers.ts'
import { readEnvelope } from '../../src/worker/exchange/json-rpc.ts'
import { ListingCache } from '../../src/worker/exchange/listing-cache.ts'
import { ListingFetch } from '../../src/worker/exchange/listing-fetch.ts'
import { Listings } from '../../src/worker/exchange/listings.ts'
import { Session } from '../../src/worker/session/session.ts'
import type {
  AnswerListener,
  Upstream,
  UpstreamRequest,
} from '../../src/worker/upstream/upstream.ts'
import { AdapterError } from '../../src/shared/errors.ts'
import { mintSessionId } from '../../src/shared/ids.ts'
import { eventually, within } from '../support/eventually.ts'
import { Witness } from './upstream-fixture.ts'

const POST: UpstreamRequest = { method: 'POST', headers: [], body: '{}', isSafe: true }
const JSON_HEAD = ['content-type', 'application/json'] as const

function listing(size: number): Around {
  const text = JSON.stringify({ jsonrpc: '2.0', id: 1, result: { text: 'x'.repeat(size) } })
  const around = aroundId(Buffer.from(text), 1)
  if (around === undefined) throw new Error('it has an id')
  return around
}

/** An upstream that answers when it is told to. */
class Held implements Pick<Upstream, 'call'> {
  readonly calls: { readonly listener: AnswerListener; isAborted: boolean; waitedMs?: number }[] =
    []

  call(_request: UpstreamRequest, listener: AnswerListener) {
    const call: (typeof this.calls)[number] = { listener, isAborted: false }
    this.calls.push(call)
    return {
      abort: (waitedMs?: number) => {
        call.isAborted = true
        if (waitedMs !== undefined) call.waitedMs = waitedMs
      },
      pause: () => {},
      resume: () => {},
    }
  }

  answer(index: number, body: unknown, headers: readonly string[] = JSON_HEAD): void {
    const listener = this.calls[index]?.listener
    listener?.head(200, headers)
    listener?.data(Buffer.from(JSON.stringify(body)))
    listener?.end()
  }
}

function fetchOf(upstream: Held, witness: Witness, maxWaitMs = 10_000) {
  const kept: Around[] = []
  const fetch = new ListingFetch({
    upstream,
    request: POST,
    id: 1,
    listener: witness,
    onListing: (around) => kept.push(around),
    onSettled: () => {},
    maxWaitMs,
  })
  return { fetch: fetch.start(), kept }
}

t.test('what is kept is bounded by bytes, and what was used last stays longest', async (t) => {
  const cache = new ListingCache(60_000, 10_000)
  for (const key of ['a', 'b', 'c', 'd']) cache.keep('s', key, listing(1_500))
  t.ok(cache.bytes <= 10_000)
  t.ok(cache.find('a'))
  for (const key of ['e', 'f']) cache.keep('s', key, listing(1_500))
  t.ok(cache.bytes <= 10_000)
  t.ok(cache.find('a'), 'it was used')
  t.notOk(cache.find('b'))
  cache.keep('s', 'giant', listing(3_000))
  t.notOk(cache.find('giant'), 'one that would push everything out is not kept')
  cache.keep('s', 'a', listing(100))
  cache.keep('other', 'g', listing(100))
  t.ok(cache.drop('s'))
  t.notOk(cache.find('a'))
  t.ok(cache.find('g'))
  t.notOk(cache.drop('s'))
  t.ok(cache.dropAll('oth'))
  t.equal(cache.bytes, 0)
  t.ok(cache.isEmpty)
  for (let n = 0; n < 10_000; n++) cache.keep(`s${n}`, `k${n}`, listing(10))
  t.ok(cache.bytes <= 10_000)
})

t.test('what is too old is not found', async (t) => {
  const cache = new ListingCache(30)
  cache.keep('s', 'a', listing(10))
  await eventually('its time is over', () => cache.find('a') === undefined)
  t.equal(cache.bytes, 0)
})

t.test('those who wait too long ask for themselves', async (t) => {
  const upstream = new Held()
  const [leader, waiter] = [new Witness(), new Witness()]
  const { fetch } = fetchOf(upstream, leader, 20)
  const call = fetch.join(2, waiter, () => upstream.call(POST, waiter))
  await eventually('it asks', () => upstream.calls.length === 2)
  upstream.answer(1, { jsonrpc: '2.0', id: 2, result: {} })
  t.equal(waiter.ends, 1)
  upstream.answer(0, { jsonrpc: '2.0', id: 1, result: {} })
  t.equal(leader.ends, 1)
  t.equal(waiter.ends, 1, 'and is not answered twice')
  call.abort()
  t.equal(upstream.calls[1]?.isAborted, true)
})

t.test('those who wait ask for themselves when the answer is no listing', async (t) => {
  const answers: readonly ((upstream: Held) => void)[] = [
    (upstream) => upstream.calls[0]?.listener.head(404, JSON_HEAD),
    (upstream) => upstream.answer(0, { jsonrpc: '2.0', id: 1, error: {} }),
    (upstream) => upstream.answer(0, { jsonrpc: '2.0', id: 1, result: { nextCursor: 'a' } }),
    (upstream) => upstream.answer(0, 'text', ['content-type', 'text/plain']),
    (upstream) => upstream.answer(0, {}, [...JSON_HEAD, 'content-encoding', 'gzip']),
    (upstream) => upstream.answer(0, { id: 1, result: { text: 'x'.repeat(3_000_000) } }),
    (upstream) => upstream.answer(0, 'data', ['content-type', 'text/event-stream']),
  ]
  for (const answer of answers) {
    const upstream = new Held()
    const [leader, waiter] = [new Witness(), new Witness()]
    const { fetch, kept } = fetchOf(upstream, leader)
    fetch.join(2, waiter, () => upstream.call(POST, waiter))
    answer(upstream)
    t.equal(upstream.calls.length, 2)
    t.equal(leader.heads, 1)
    t.equal(waiter.heads, 0)
    t.equal(kept.length, 0)
  }
})

t.test('a failure is told to those who wait, and a listener that fails harms nobody', async (t) => {
  const upstream = new Held()
  const leader = new Witness()
  const broken = new Witness({
    head: () => {
      throw new Error('broken')
    },
  })
  const good = new Witness()
  const { fetch, kept } = fetchOf(upstream, leader)
  for (const [id, witness] of [broken, good].entries())
    fetch.join(id + 2, witness, () => upstream.call(POST, witness))
  upstream.answer(0, { jsonrpc: '2.0', id: 1, result: {} })
  t.equal(broken.code, 'ADAPTER_INTERNAL')
  t.match(JSON.parse(good.body.toString()), { id: 3, result: {} })
  t.equal(leader.ends, 1)
  t.equal(kept.length, 1)

  const failing = new Witness()
  const lost = fetchOf(upstream, failing)
  const waiter = new Witness()
  lost.fetch.join(2, waiter, () => upstream.call(POST, waiter))
  upstream.calls[1]?.listener.error(new AdapterError('ADAPTER_UPSTREAM_UNREACHABLE', 'gone'))
  t.equal(failing.code, 'ADAPTER_UPSTREAM_UNREACHABLE')
  t.equal(waiter.code, 'ADAPTER_UPSTREAM_UNREACHABLE')
  t.equal(upstream.calls.length, 2)
})

t.test('the upstream is told when a listing was waited for in vain', async (t) => {
  const upstream = new Held()
  const alone = fetchOf(upstream, new Witness())
  alone.fetch.abort(1_000)
  t.equal(upstream.calls[0]?.waitedMs, 1_000)
  const shared = fetchOf(upstream, new Witness())
  const waiter = new Witness()
  const call = shared.fetch.join(2, waiter, () => upstream.call(POST, waiter))
  shared.fetch.abort()
  call.abort(2_000)
  t.equal(upstream.calls[1]?.waitedMs, 2_000, 'by the last who waited')
  const asking = fetchOf(upstream, new Witness(), 20)
  const own = asking.fetch.join(3, waiter, () => upstream.call(POST, waiter))
  await eventually('it asks itself', () => upstream.calls.length === 4)
  own.abort(3_000)
  t.equal(upstream.calls[3]?.waitedMs, 3_000)
  asking.fetch.abort()
})

t.test('a fetch goes on while anybody waits for it, and no longer', async (t) => {
  const upstream = new Held()
  const { fetch } = fetchOf(upstream, new Witness())
  const waiter = new Witness()
  const call = fetch.join(2, waiter, () => upstream.call(POST, waiter))
  fetch.abort()
  t.equal(upstream.calls[0]?.isAborted, false)
  call.abort()
  t.equal(upstream.calls[0]?.isAborted, true)
  upstream.answer(0, { jsonrpc: '2.0', id: 1, result: {} })
  t.equal(waiter.heads, 0)
})

function sessionOf(upstreamSessionId: string | null, principal = 'ann'): Session {
  const record = {
    schemaVersion: 1 as const,
    serverId: 'a',
    sessionId: mintSessionId(),
    createdAtMs: 0,
    protocolVersion: '2025-06-18',
    upstreamSessionId,
    initializeParams: {},
    upstreamHas: { tools: true, resources: true },
  }
  return new Session(record, principal, 0, 0)
}

t.test(
  'where other replicas serve the session too, only lists that no session owns are kept',
  async (t) => {
    const asked = async (
      scope: 'auto' | 'principal',
      isStateShared: boolean,
      upstreamSessionId: string | null,
    ): Promise<number> => {
      const upstream = new Held()
      const listings = new Listings(new ListingCache(60_000), scope, isStateShared)
      const envelope = readEnvelope('{"jsonrpc":"2.0","id":1,"method":"prompts/list"}')
      const session = sessionOf(upstreamSessionId)
      for (let n = 0; n < 2; n++) {
        const place = { session, received: [], mustAskForTools: () => false }
        const witness = new Witness()
        listings.through(upstream, envelope, place)?.call(POST, witness)
        upstream.answer(n, { jsonrpc: '2.0', id: 1, result: { prompts: [] } })
        await within('the answer', witness.over)
        t.match(JSON.parse(witness.body.toString()), { id: 1 })
      }
      return upstream.calls.length
    }
    t.equal(await asked('auto', false, 'up'), 1)
    t.equal(await asked('auto', true, 'up'), 2)
    t.equal(await asked('auto', true, null), 1)
    t.equal(await asked('principal', true, 'up'), 1)
  },
)

t.test('any id is put in its place', async (t) => {
  const around = listing(10)
  for (const id of [0, -1, 'a"b', '', 'ü', 2 ** 53 - 1]) {
    t.match(JSON.parse(Buffer.from(withId(around, id)).toString()), { id, jsonrpc: '2.0' })
  }
})
