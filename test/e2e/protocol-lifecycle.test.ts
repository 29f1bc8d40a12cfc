// How long sessions live: limits on how many, idleness, restarts and stops of the adapter.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { startReplica } from '../support/replica.ts'
import type { Replica } from '../support/replica.ts'
import {
  beginStream,
  event,
  idOf,
  sendJson,
  sendResult,
  startScriptedUpstream,
} from '../support/upstreams/scripted-upstream.ts'
import type { ReceivedRequest } from '../support/upstreams/scripted-upstream.ts'
import {
  answerIn,
  initialize,
  messagesIn,
  open,
  POST_HEADERS,
  WireSession,
} from '../support/wire.ts'

// Several processes start here, one after the other.
t.setTimeout(600_000)

const upstream = await startScriptedUpstream()
upstream.scripts.set('tools/call where', (request) => {
  sendResult(request, { on: request.headers['mcp-session-id'] })
})
t.teardown(() => upstream.stop())

const servers = [{ id: 's', mount_path: '/mcp', upstream: { url: upstream.url } }]

/** The upstream session that a session's calls arrive at. */
async function whereOf(session: WireSession): Promise<unknown> {
  return (await session.call('where')).json().result?.['on']
}

/** The same session at another replica, or at the same after a restart. */
function movedTo(replica: Replica, session: WireSession): WireSession {
  return new WireSession(`${replica.url}/mcp`, session.id, session.version)
}

t.test('limits', async (t) => {
  const replica = await startReplica({
    config: {
      core: { workers: 1, cleanup_interval_seconds: 1 },
      sessions: {
        max_active: 2,
        max_in_flight_per_session: 2,
        idle_ttl_seconds: 1,
        upstream_session_termination_retries: 0,
      },
      servers,
    },
  })
  const url = `${replica.url}/mcp`
  t.teardown(() => replica.stop())

  await t.test(
    'requests beyond max_in_flight_per_session are refused until one ends, however it ends',
    async (t) => {
      const session = await WireSession.open(url)
      const waiting: ReceivedRequest[] = []
      upstream.scripts.set('tools/call wait', (request) => void waiting.push(request))
      const expectFull = async (): Promise<void> => {
        const message = session.message('ping')
        const refused = await session.post(message)
        t.equal(refused.status, 429)
        t.ok(Number(refused.headers['retry-after']) >= 1)
        t.match(refused.json(), {
          id: message.id,
          error: { code: 1429, data: { retryable: true } },
        })
      }
      const expectFree = async (): Promise<void> => {
        await eventually(
          'a slot is free',
          async () => (await session.request('ping')).status === 200,
        )
      }
      const first = session.call('wait')
      const second = session.stream(session.message('tools/call', { name: 'wait' }))
      await eventually('both wait', () => waiting.length === 2)
      await expectFull()
      const notified = await session.post({ jsonrpc: '2.0', method: 'notifications/x' })
      t.equal(notified.status, 202, 'notifications need no slot')
      const [one, two] = waiting
      t.ok(one && two)
      if (one) sendResult(one, {})
      await first
      await expectFree()
      two?.response.destroy()
      t.equal((await second).status, 502)
      await expectFree()

      // Both slots once more, given back by clients that go away.
      waiting.length = 0
      const leaving = [new AbortController(), new AbortController()]
      const calls = leaving.map(({ signal }) => {
        const body = JSON.stringify(session.message('tools/call', { name: 'wait' }))
        return open(url, { headers: session.headers, body, signal })
      })
      for (const call of calls) call.catch(() => {})
      await eventually('both wait', () => waiting.length === 2)
      await expectFull()
      leaving[0]?.abort()
      await expectFree()
      leaving[1]?.abort()
      await Promise.all(calls.map((call) => t.rejects(call)))
      await session.delete()
    },
  )

  await t.test('a batch takes as many slots as it has requests', async (t) => {
    const session = await WireSession.open(url, { version: '2025-03-26' })
    const batch = [1, 2, 3].map((id) => ({ jsonrpc: '2.0', id, method: 'ping' }))
    t.equal((await session.post(batch)).status, 429)
    upstream.scripts.set('batch', (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' }).end('[]')
    })
    t.equal((await session.post(batch.slice(0, 2))).status, 200)
    t.equal((await session.post(batch.slice(0, 2))).status, 200)
    await session.delete()
  })

  await t.test(
    'sessions beyond max_active are refused, and their upstream session is ended',
    async (t) => {
      const sessions = [await WireSession.open(url), await WireSession.open(url)]
      // Kept in use: an idle session would make room.
      const streams = await Promise.all(sessions.map((session) => held(session)))
      const before = new Set(upstream.sessions)
      const refused = await initialize(url)
      t.equal(refused.status, 429)
      t.ok(Number(refused.headers['retry-after']) >= 1, 'it says when to try again')
      t.equal(refused.headers['mcp-session-id'], undefined)
      t.match(refused.json(), { id: 'init', error: { code: 1429, message: /max_active/ } })
      await eventually(
        'the upstream has no more than before',
        () => upstream.sessions.size === before.size,
      )
      streams.forEach((stream) => stream.close())
      await sessions[0]?.delete()
      const next = await WireSession.open(url)
      await next.delete()
      await sessions[1]?.delete()
    },
  )

  await t.test(
    'with no retries configured, the client learns that the upstream session is gone',
    async (t) => {
      const session = await WireSession.open(url)
      upstream.sessions.clear()
      const before = upstream.requests('initialize').length
      t.equal((await session.call('where')).status, 404)
      t.equal(upstream.requests('initialize').length, before)
      await session.delete()
    },
  )

  await t.test(
    'an idle session makes room, and comes back with the upstream session that it had',
    async (t) => {
      const session = await WireSession.open(url)
      const on = await whereOf(session)
      const others: WireSession[] = []
      await eventually('it is idle', async () => {
        const answer = await initialize(url)
        const id = answer.headers['mcp-session-id']
        if (typeof id === 'string') others.push(new WireSession(url, id, '2025-06-18'))
        return others.length === 2
      })
      const full = await session.call('where')
      if (full.status !== 429) t.equal(full.status, 200, 'one of the others was idle already')
      for (const other of others) await other.delete()
      t.equal(await whereOf(session), on)
      t.notOk(upstream.requests('DELETE').some(({ headers }) => headers['mcp-session-id'] === on))
      await session.delete()
    },
  )
})

/** Opens a call that stays open. */
async function held(session: WireSession) {
  upstream.scripts.set('tools/call held', (_request, response) => {
    beginStream(response)
    response.write(event({ jsonrpc: '2.0', method: 'notifications/progress' }))
  })
  const stream = await session.stream(session.message('tools/call', { name: 'held' }))
  await stream.until('progress')
  return stream
}

for (const [type, signals] of [
  ['disk', ['SIGTERM', 'SIGKILL']],
  ['memory', ['SIGTERM']],
] as const) {
  t.test(
    `with ${type} state a session outlives ${signals.join(' and ')}, with its upstream session`,
    async (t) => {
      const directory = await mkdtemp(join(tmpdir(), 'adapter-restart-'))
      t.teardown(() => rm(directory, { recursive: true, force: true }))
      const config = { core: { workers: 2 }, state_persistence: { type }, servers }
      let replica = await startReplica({ config, directory })
      t.teardown(() => replica.stop())
      let session = await WireSession.open(`${replica.url}/mcp`)
      const ended = await WireSession.open(`${replica.url}/mcp`)
      await ended.delete()
      const on = await whereOf(session)
      for (const signal of signals) {
        if (signal === 'SIGTERM') t.equal(await replica.stop(), 0)
        else await replica.kill()
        replica = await startReplica({ config, directory })
        session = movedTo(replica, session)
        t.equal(await whereOf(session), on, signal)
        const gone = await movedTo(replica, ended).call('where')
        t.equal(gone.status, 404, 'a deleted one stays deleted')
      }
      await session.delete()
      await eventually('the upstream session ends', () => !upstream.sessions.has(String(on)))
    },
  )
}

const replica = await startReplica({ config: { core: { workers: 2 }, servers } })
const url = `${replica.url}/mcp`

t.test(
  'a client that goes away while it initializes leaves no upstream session behind',
  async (t) => {
    let answerNow: (() => void) | undefined
    upstream.scripts.set('initialize', (request, response) => {
      answerNow = () => {
        upstream.sessions.add('up-orphan')
        sendJson(
          response,
          {
            jsonrpc: '2.0',
            id: idOf(request),
            result: { protocolVersion: '2025-06-18', capabilities: {} },
          },
          { 'mcp-session-id': 'up-orphan' },
        )
      }
    })
    const before = upstream.requests('initialize').length
    const going = open(url, {
      headers: POST_HEADERS,
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'initialize', params: {} }),
      signal: AbortSignal.timeout(200),
    })
    await t.rejects(going)
    await eventually('it arrived', () => upstream.requests('initialize').length === before + 1)
    answerNow?.()
    await eventually('it is ended', () => !upstream.sessions.has('up-orphan'))
    upstream.scripts.delete('initialize')
  },
)

t.test('an initialize that the upstream refuses is relayed and opens nothing', async (t) => {
  upstream.scripts.set('initialize', (request, response) => {
    sendJson(response, {
      jsonrpc: '2.0',
      id: idOf(request),
      error: { code: -32602, message: 'no such revision', data: { supported: ['2025-06-18'] } },
    })
  })
  const refused = await initialize(url, '1999-01-01')
  t.equal(refused.headers['mcp-session-id'], undefined)
  t.match(refused.json(), {
    id: 'init',
    error: { code: -32602, data: { supported: ['2025-06-18'] } },
  })
  upstream.scripts.set('initialize', (request, response) => {
    beginStream(response)
    response.write(': hello\n\n')
    response.end(
      event({ jsonrpc: '2.0', id: idOf(request), error: { code: -32603, message: 'broken' } }),
    )
  })
  const streamed = await initialize(url)
  t.equal(streamed.headers['mcp-session-id'], undefined)
  t.match(answerIn(streamed), { error: { code: -32603 } })
  upstream.scripts.set('initialize', (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' }).end('<html>')
  })
  const garbage = await initialize(url)
  t.equal(garbage.status, 502)
  t.match(garbage.json(), { id: 'init', error: { code: 1502, message: /not JSON/ } })
  upstream.scripts.set(
    'initialize',
    (_request, response) => void response.writeHead(401).end('who?'),
  )
  const unauthorized = await initialize(url)
  t.equal(unauthorized.status, 502)
  t.match(unauthorized.json(), {
    id: 'init',
    error: { data: { code: 'ADAPTER_UPSTREAM_REFUSED' } },
  })
  upstream.scripts.delete('initialize')
})

t.test(
  'an initialize answered as a stream keeps what comes before and after the answer',
  async (t) => {
    upstream.scripts.set('initialize', (request, response) => {
      upstream.sessions.add('up-sse')
      beginStream(response, { 'mcp-session-id': 'up-sse' })
      response.write(': first\n\nid: 1\nretry: 10\ndata:\n\n')
      response.write(
        event(
          {
            jsonrpc: '2.0',
            id: idOf(request),
            result: { protocolVersion: '2025-06-18', capabilities: {}, 'x-kept': 1 },
          },
          '2',
        ),
      )
      response.end(event({ jsonrpc: '2.0', method: 'notifications/message', params: {} }, '3'))
    })
    const answer = await initialize(url)
    t.match(answer.headers['mcp-session-id'], /^[\w-]{32}$/)
    t.match(answer.body, ': first\n\nid: 1\nretry: 10\ndata:\n\n')
    t.same(
      messagesIn(answer.body).map(({ id, method }) => method ?? id),
      ['init', 'notifications/message'],
    )
    t.match(answer.body, /id: 2\n/)
    t.match(answerIn(answer).result, { 'x-kept': 1 })
    upstream.scripts.delete('initialize')
  },
)

t.test('a stop lets calls finish, ends streams, and exits with 0', async (t) => {
  const session = await WireSession.open(url)
  upstream.scripts.set('GET', (_request, response) => {
    beginStream(response)
    response.write(': open\n\n')
  })
  let finish: (() => void) | undefined
  upstream.scripts.set('tools/call long', (request, response) => {
    beginStream(response)
    response.write(event({ jsonrpc: '2.0', method: 'notifications/progress' }))
    finish = () =>
      void response.end(event({ jsonrpc: '2.0', id: idOf(request), result: { late: true } }))
  })
  upstream.scripts.set('subscriptions/listen', (_request, response) => {
    beginStream(response)
    response.write(event({ jsonrpc: '2.0', method: 'notifications/subscriptions/acknowledged' }))
  })
  const get = await session.get()
  await get.until(': open')
  const call = await session.stream(session.message('tools/call', { name: 'long' }))
  await call.until('progress')
  const meta = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientCapabilities': {},
  }
  const listen = await open(session.url, {
    headers: {
      ...POST_HEADERS,
      'mcp-protocol-version': '2026-07-28',
      'mcp-method': 'subscriptions/listen',
    },
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'subscriptions/listen',
      params: { _meta: meta },
    }),
  })
  await listen.until('acknowledged')
  const stopped = replica.stop()
  t.equal(await within('the standalone stream ends', get.ended), 'end')
  t.equal(await within('the subscription ends', listen.ended), 'end')
  t.notMatch(call.text(), 'late')
  finish?.()
  t.equal(await within('the call ends', call.ended), 'end')
  t.match(messagesIn(call.text()).at(-1), { result: { late: true } })
  t.equal(await stopped, 0)
  upstream.scripts.delete('GET')
})
