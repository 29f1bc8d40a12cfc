// What happens when an upstream fails, as clients and operators see it: what the breaker refuses, tries and leaves alone.
import t from 'tap'

import {
  codeOf,
  fails,
  healthOf,
  HOUR,
  startBreakerRig,
  untilState,
} from '../support/breaker-rig.ts'
import { eventually } from '../support/eventually.ts'
import {
  beginStream,
  event,
  idOf,
  sendJson,
  sendResult,
} from '../support/upstreams/scripted-upstream.ts'
import type { ReceivedRequest, Script } from '../support/upstreams/scripted-upstream.ts'
import { initialize, messagesIn, send, WireSession } from '../support/wire.ts'
import type { WireAnswer } from '../support/wire.ts'

// Time-outs and intervals are whole seconds.
t.setTimeout(240_000)

/** Never answers; what came is kept, to be answered later. */
function holding(): { readonly script: Script; readonly held: ReceivedRequest[] } {
  const held: ReceivedRequest[] = []
  return {
    held,
    script: (request) => {
      held.push(request)
    },
  }
}

t.test(
  'after failures in a row new requests are refused at once, under their ids, whichever worker they reach',
  async (test) => {
    const { upstream, replica, url } = await startBreakerRig(test)
    const session = await WireSession.open(url)
    upstream.scripts.set('tools/call broken', fails)
    upstream.scripts.set('probe', fails)
    for (let n = 0; n < 3; n++) test.equal((await session.call('broken')).status, 500)
    await untilState(replica, 'open')
    const before = upstream.received.length
    const refused = await session.post({ jsonrpc: '2.0', id: 'mine', method: 'tools/list' })
    test.equal(refused.status, 503)
    test.equal(codeOf(refused), 'ADAPTER_UPSTREAM_DOWN')
    test.equal(refused.json().id, 'mine')
    const retryAfter = Number(refused.headers['retry-after'])
    test.ok(retryAfter > HOUR - 60 && retryAfter <= HOUR, `Retry-After: ${retryAfter}`)
    for (let n = 0; n < 6; n++) {
      const another = await initialize(url)
      test.equal(another.status, 503)
      test.equal(another.json().id, 'init')
    }
    const modern = await send(url, {
      headers: {
        accept: 'application/json, text/event-stream',
        'content-type': 'application/json',
        'mcp-protocol-version': '2026-07-28',
        'mcp-method': 'tools/list',
      },
      body: JSON.stringify({
        jsonrpc: '2.0',
        id: 7,
        method: 'tools/list',
        params: {
          _meta: {
            'io.modelcontextprotocol/protocolVersion': '2026-07-28',
            'io.modelcontextprotocol/clientCapabilities': {},
          },
        },
      }),
    })
    test.equal(modern.status, 503)
    test.equal(modern.json().id, 7)
    test.equal(upstream.received.length, before, 'nothing of it reached the upstream')
    const { status, reason, server, body } = await healthOf(replica)
    test.equal(status, 503)
    test.equal(reason, 'upstream_unhealthy')
    test.match(server, { status: 'degraded', detail: 'upstream_unhealthy' })
    test.match(
      server.breaker,
      { state: 'open', consecutive_failures: 4, failure_threshold: 3 },
      'three requests and the ping that was to make sure',
    )
    test.notMatch(body, /127\.0\.0\.1|last_error|broken/, 'nobody is told addresses or errors')
    test.equal((await send(`${replica.url}/readyz`, { method: 'GET' })).status, 200)
    test.equal((await send(`${replica.url}/livez`, { method: 'GET' })).status, 200)
  },
)

t.test('what clients do wrong and what tools answer never counts', async (test) => {
  const { upstream, replica, url } = await startBreakerRig(test)
  const session = await WireSession.open(url)
  upstream.scripts.set('tools/call error', (request, response) =>
    sendJson(response, {
      jsonrpc: '2.0',
      id: idOf(request),
      error: { code: -32603, message: 'internal' },
    }),
  )
  upstream.scripts.set('tools/call toolError', (request) =>
    sendResult(request, { content: [], isError: true }),
  )
  for (const status of [400, 403, 405, 406, 409, 429]) {
    upstream.scripts.set(`tools/call ${status}`, (_request, response) => {
      response.writeHead(status).end()
    })
    for (let n = 0; n < 4; n++) test.equal((await session.call(String(status))).status, status)
  }
  upstream.scripts.set('tools/call 401', (_request, response) => {
    response.writeHead(401).end()
  })
  for (let n = 0; n < 4; n++) test.equal((await session.call('401')).status, 502)
  for (let n = 0; n < 4; n++) {
    await session.call('error')
    await session.call('toolError')
  }
  upstream.scripts.set('tools/call broken', fails)
  for (let n = 0; n < 4; n++) {
    await session.call('broken')
    await session.call('broken')
    test.equal((await session.request('tools/list')).status, 200, 'a success starts the count over')
  }
  test.match((await healthOf(replica)).server.breaker, { state: 'closed', consecutive_failures: 0 })
})

t.test('opening closes nothing that works', async (test) => {
  const { upstream, replica, url } = await startBreakerRig(test)
  upstream.scripts.set('probe', fails)
  upstream.scripts.set('GET', (_request, response) => beginStream(response))
  upstream.scripts.set('tools/call long', (_request, response) => beginStream(response))
  upstream.scripts.set('tools/call broken', fails)
  const session = await WireSession.open(url)
  const [upstreamSession] = upstream.sessions
  const listening = await session.get()
  const call = await session.stream(session.message('tools/call', { name: 'long' }))
  for (let n = 0; n < 3; n++) await session.call('broken')
  await untilState(replica, 'open')
  test.equal((await session.request('tools/list')).status, 503)

  const [running] = upstream.requests('tools/call long')
  running?.response.write(
    event({ jsonrpc: '2.0', id: 'ask', method: 'elicitation/create', params: {} }),
  )
  await call.until('elicitation/create')
  const answered = await session.post({
    jsonrpc: '2.0',
    id: 'ask',
    result: { action: 'decline' },
  })
  test.equal(answered.status, 202, 'an answer to the upstream passes')
  test.equal(upstream.requests('response').length, 1)
  const cancelled = await session.post({
    jsonrpc: '2.0',
    method: 'notifications/cancelled',
    params: { requestId: 99 },
  })
  test.equal(cancelled.status, 202, 'so does a notification')
  running?.response.end(
    event({ jsonrpc: '2.0', id: running === undefined ? 0 : idOf(running), result: {} }),
  )
  test.equal(await call.ended, 'end')
  test.ok(messagesIn(call.text()).some(({ result }) => result !== undefined))

  upstream.requests('GET')[0]?.response.write(event({ jsonrpc: '2.0', method: 'notifications/x' }))
  await listening.until('notifications/x')
  listening.close()
  const again = await session.get()
  test.equal(again.status, 200, 'a stream can be taken up again')
  again.close()
  test.ok(upstreamSession !== undefined && upstream.sessions.has(upstreamSession))
  test.equal((await session.delete()).status, 200)
  await eventually('the upstream session is ended', () => upstream.sessions.size === 0)
})

t.test('after the cooldown requests probe, one by one, and their outcome decides', async (test) => {
  const { upstream, replica, url } = await startBreakerRig(test, { open_cooldown_seconds: 1 })
  const session = await WireSession.open(url)
  upstream.scripts.set('tools/call broken', fails)
  upstream.scripts.set('probe', fails)
  const open = async (): Promise<void> => {
    for (let n = 0; n < 3; n++) await session.call('broken')
    await untilState(replica, 'open')
  }
  await open()
  const { held, script } = holding()
  upstream.scripts.set('tools/call held', script)
  let trial: Promise<WireAnswer> | undefined
  await eventually('a request is let through', async () => {
    const answer = session.call('held')
    const first = await Promise.race([answer.then(({ status }) => status), arrived(held)])
    trial = answer
    return first !== 503
  })
  const second = await session.call('held')
  test.equal(second.status, 503, 'half_open_probe_allowance is 1')
  test.equal(second.headers['retry-after'], '1')
  test.match((await healthOf(replica)).server.breaker, {
    state: 'half_open',
    half_open_probe_count: 1,
  })
  for (const request of held) sendResult(request, {})
  test.equal((await trial)?.status, 200)
  test.match((await healthOf(replica)).server.breaker, { state: 'closed', consecutive_failures: 0 })
  test.equal((await session.call('x')).status, 200)

  await open()
  await eventually('a request is let through', async () => {
    const { status } = await session.call('broken')
    return status === 500
  })
  await untilState(replica, 'open')
  test.equal((await session.call('x')).status, 503, 'one failure opens it again')
})

function arrived(held: readonly ReceivedRequest[]): Promise<string> {
  return eventually('it is held', () => held.length > 0, 5_000).then(
    () => 'held',
    () => 'refused',
  )
}

t.test('a trial whose client leaves makes room for the next', async (test) => {
  const { upstream, replica, url } = await startBreakerRig(test, { open_cooldown_seconds: 1 })
  const session = await WireSession.open(url)
  upstream.scripts.set('tools/call broken', fails)
  upstream.scripts.set('probe', fails)
  for (let n = 0; n < 3; n++) await session.call('broken')
  await untilState(replica, 'open')
  const { held, script } = holding()
  upstream.scripts.set('tools/call held', script)
  const leaving = new AbortController()
  await eventually('a request is let through', async () => {
    const { signal } = leaving
    const headers = session.headers
    const body = JSON.stringify(session.message('tools/call', { name: 'held' }))
    const answer = send(url, { headers, body, signal }).then(
      ({ status }) => status,
      () => 0,
    )
    return (await Promise.race([answer, arrived(held)])) !== 503
  })
  leaving.abort()
  await eventually('the upstream sees it leave', () => held.every(({ isCut }) => isCut))
  await eventually('another one is tried', async () => (await session.call('x')).status === 200)
})

t.test('calls that time out count when the upstream is silent, and only then', async (test) => {
  const { upstream, replica, url } = await startBreakerRig(
    test,
    {},
    { tool_defaults: { tool_call_timeout_seconds: 1 } },
  )
  const session = await WireSession.open(url)
  upstream.scripts.set('tools/call slow', () => undefined)
  const beside = { isOver: false }
  const others = (async () => {
    while (!beside.isOver) await session.call('quick')
  })()
  const slow = await Promise.all(Array.from({ length: 6 }, () => session.call('slow')))
  test.same(
    slow.map(({ status }) => status),
    Array.from({ length: 6 }, () => 504),
  )
  beside.isOver = true
  await others
  test.equal((await healthOf(replica)).server.breaker.state, 'closed', 'one tool is slow')
  // The news of a call that is given up would be answered, too.
  upstream.scripts.set('notifications/cancelled', () => undefined)
  upstream.scripts.set('probe', () => undefined)
  for (let n = 0; n < 3; n++) test.equal((await session.call('slow')).status, 504)
  await untilState(replica, 'open')
  test.equal((await session.call('quick')).status, 503, 'nothing is answered')
})
