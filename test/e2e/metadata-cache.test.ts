// Listings that are shown again (core.upstream_metadata_cache_ttl_seconds): who shares them, and what makes the upstream be asked again.
import t from 'tap'

import { eventually } from '../support/eventually.ts'
import { startReplica } from '../support/replica.ts'
import {
  beginStream,
  event,
  idOf,
  sendJson,
  sendResult,
  startScriptedUpstream,
} from '../support/upstreams/scripted-upstream.ts'
import type { ReceivedRequest, ScriptedUpstream } from '../support/upstreams/scripted-upstream.ts'
import { answerIn, POST_HEADERS, send, WireSession } from '../support/wire.ts'

t.setTimeout(120_000)

const CAPABILITIES = { tools: { listChanged: true }, resources: {}, prompts: {} }
const bound = await startScriptedUpstream({ capabilities: CAPABILITIES })
const free = await startScriptedUpstream({ capabilities: CAPABILITIES, stateless: true })
const TOKENS = { ann: 'token-of-ann-0123456789', bob: 'token-of-bob-0123456789' }
const unpinned = { tool_definition_pinning: { mode: 'off' } }
const replica = await startReplica({
  config: {
    core: {
      workers: 1,
      upstream_metadata_cache_ttl_seconds: 60,
      auth: {
        enabled: true,
        header_name: 'X-Key',
        tokens: Object.entries(TOKENS).map(([name, token]) => ({ name, token })),
      },
    },
    servers: [
      { id: 'bound', mount_path: '/mcp/bound', upstream: { url: bound.url }, ...unpinned },
      {
        id: 'free',
        mount_path: '/mcp/free',
        upstream: { url: free.url, client_headers: { passthrough: ['X-Tenant'] } },
        ...unpinned,
      },
      { id: 'pinned', mount_path: '/mcp/pinned', upstream: { url: free.url } },
      {
        id: 'alike',
        mount_path: '/mcp/alike',
        upstream: { url: bound.url, metadata_cache_scope: 'principal' },
        ...unpinned,
      },
      {
        id: 'off',
        mount_path: '/mcp/off',
        upstream: { url: free.url, metadata_cache_scope: 'off' },
        ...unpinned,
      },
    ],
  },
})
t.teardown(async () => {
  await replica.stop()
  await bound.stop()
  await free.stop()
})

function open(
  server: string,
  who: keyof typeof TOKENS = 'ann',
  headers: Readonly<Record<string, string>> = {},
): Promise<WireSession> {
  return WireSession.open(`${replica.url}/mcp/${server}`, {
    headers: { 'x-key': TOKENS[who], ...headers },
  })
}

/** How many requests of this kind an upstream got from here on. */
function counter(upstream: ScriptedUpstream, name: string): () => number {
  const before = upstream.requests(name).length
  return () => upstream.requests(name).length - before
}

/** As no serializer writes it: what is kept are the upstream's bytes. */
function text(id: string): string {
  return `{ "result":{"resources":[{"uri":"x:1","n":1.0}]}, "id" : ${id}, "jsonrpc":"2.0"}`
}

async function seen(session: WireSession): Promise<string> {
  return JSON.stringify((await session.request('tools/list')).json().result)
}

const LIST = { jsonrpc: '2.0', method: 'resources/list' }

t.test('a list is asked for once, and each request gets it under its own id', async (t) => {
  bound.scripts.set('resources/list', (request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(text(JSON.stringify(idOf(request))))
  })
  const asked = counter(bound, 'resources/list')
  const session = await open('bound')
  for (const id of [1, 'one', 'ü"\\', 1]) {
    const answer = await session.post({ ...LIST, id })
    t.equal(answer.status, 200)
    t.equal(answer.body, text(JSON.stringify(id)))
    t.match(answer.headers['content-type'], 'application/json')
  }
  const meta = { progressToken: 1, traceparent: '00-1-2-03' }
  t.equal((await session.post({ ...LIST, id: 5, params: { _meta: meta } })).body, text('5'))
  t.equal(asked(), 1)
  const other = await open('bound')
  t.equal((await other.post({ ...LIST, id: 6 })).body, text('6'))
  t.equal(asked(), 2, 'another session of an upstream that keeps sessions asks for itself')
  for (const params of [{ cursor: 'x' }, { filter: 1 }, { _meta: { 'x.y/z': 1 } }]) {
    await session.post({ ...LIST, id: 7, params })
  }
  await session.post([{ ...LIST, id: 8 }])
  t.equal(asked(), 5, 'what asks for more than the list goes upstream')
  bound.scripts.delete('resources/list')
})

t.test('an event stream is kept as well, and answered as JSON', async (t) => {
  const asked = counter(bound, 'prompts/list')
  const prompts = [{ name: 'p' }]
  for (const lineEnd of ['\n', '\r\n']) {
    bound.scripts.set('prompts/list', (request, response) => {
      beginStream(response)
      const answer = { jsonrpc: '2.0', id: idOf(request), result: { prompts } }
      response.end(event(answer, '7').replaceAll('\n', lineEnd))
    })
    const session = await open('bound')
    const first = await session.request('prompts/list')
    t.match(first.headers['content-type'], 'text/event-stream')
    const again = await session.request('prompts/list')
    t.match(again.headers['content-type'], 'application/json')
    t.same(answerIn(again).result, { prompts })
    t.same(answerIn(first).result, { prompts })
  }
  t.equal(asked(), 2)
  bound.scripts.delete('prompts/list')
})

t.test('sessions share only what cannot be another’s', async (t) => {
  const asked = counter(free, 'tools/list')
  const list = async (session: Promise<WireSession>): Promise<void> => {
    t.equal((await (await session).request('tools/list')).status, 200)
  }
  await list(open('free'))
  await list(open('free'))
  t.equal(asked(), 1, 'two sessions of one principal share')
  await list(open('free', 'bob'))
  t.equal(asked(), 2, 'another principal does not')
  await list(open('free', 'ann', { 'x-tenant': 'a' }))
  t.equal(asked(), 3, 'nor does a request with another forwarded header')
  await list(open('free', 'ann', { 'x-tenant': 'a' }))
  t.equal(asked(), 3)
  await list(open('off'))
  await list(open('off'))
  t.equal(asked(), 5, 'where it is off everybody asks')

  const url = `${replica.url}/mcp/free`
  const headers = { ...POST_HEADERS, 'x-key': TOKENS.ann }
  const params = {
    protocolVersion: '2025-06-18',
    capabilities: { elicitation: {} },
    clientInfo: { name: 'wire', version: '1' },
  }
  const opened = await send(url, {
    headers,
    body: JSON.stringify({ jsonrpc: '2.0', id: 0, method: 'initialize', params }),
  })
  const capable = new WireSession(
    url,
    String(opened.headers['mcp-session-id']),
    '2025-06-18',
    headers,
  )
  await capable.request('tools/list')
  t.equal(asked(), 6, 'a client with other capabilities may be shown other tools')
})

t.test('errors, pages and answers with anything else in them are not kept', async (t) => {
  const session = await open('bound')
  const asked = counter(bound, 'resources/templates/list')
  const answers: ((request: ReceivedRequest) => void)[] = [
    (request) =>
      sendJson(request.response, {
        jsonrpc: '2.0',
        id: idOf(request),
        error: { code: -1, message: 'no' },
      }),
    ({ response }) => response.writeHead(503, { 'content-type': 'application/json' }).end('{}'),
    (request) => sendResult(request, { resourceTemplates: [], nextCursor: 'more' }),
    (request) => {
      beginStream(request.response)
      const progress = { jsonrpc: '2.0', method: 'notifications/progress', params: {} }
      const result = { resourceTemplates: [] }
      request.response.end(event(progress) + event({ jsonrpc: '2.0', id: idOf(request), result }))
    },
    ({ response }) => response.writeHead(200, { 'content-type': 'application/json' }).end('{"jso'),
    (request) => sendJson(request.response, { jsonrpc: '2.0', id: 'another', result: {} }),
  ]
  for (const [index, answer] of answers.entries()) {
    bound.scripts.set('resources/templates/list', answer)
    const message = session.message('resources/templates/list')
    const first = await session.post(message)
    t.equal((await session.post(message)).body, first.body, 'and passed on as they are')
    t.equal(asked(), 2 * index + 2)
  }
  bound.scripts.delete('resources/templates/list')
})

t.test('a list is asked for again after anything that says it may have changed', async (t) => {
  const session = await open('bound')
  const other = await open('bound')
  const asked = counter(bound, 'prompts/list')
  const list = async (): Promise<number> => {
    await session.request('prompts/list')
    return asked()
  }
  t.equal(await list(), 1)
  await other.request('prompts/list')
  const changed = { jsonrpc: '2.0', method: 'notifications/prompts/list_changed' }

  bound.scripts.set('tools/call change', (request, response) => {
    beginStream(response)
    const text = event(changed) + event({ jsonrpc: '2.0', id: idOf(request), result: {} })
    // The word may come in two pieces.
    const cut = text.indexOf('list_ch') + 5
    response.write(text.slice(0, cut), () => setTimeout(() => response.end(text.slice(cut)), 20))
  })
  await session.call('change')
  t.equal(await list(), 3, 'a notification in the answer to a call')
  t.equal(await list(), 3)

  bound.scripts.set('tools/call gone', (request) =>
    sendJson(request.response, {
      jsonrpc: '2.0',
      id: idOf(request),
      error: { code: -32602, message: 'Unknown tool: gone' },
    }),
  )
  await session.call('gone')
  t.equal(await list(), 4, 'a tool that is not there any more')

  bound.scripts.set('GET', (_request, response) => {
    beginStream(response)
    response.write(event(changed))
  })
  const stream = await session.get()
  await stream.until('list_changed')
  t.equal(await list(), 5, 'a notification on the standalone stream')
  stream.close()
  bound.scripts.delete('GET')

  bound.sessions.clear()
  await session.request('ping')
  t.equal(await list(), 6, 'an upstream session that was lost')
  await other.request('ping')
  await other.request('prompts/list')
  t.equal(asked(), 7, 'in each session')

  const alike = [await open('alike'), await open('alike'), await open('alike', 'bob')]
  const all = counter(bound, 'prompts/list')
  const listAll = async (): Promise<number> => {
    for (const one of alike) await one.request('prompts/list')
    return all()
  }
  t.equal(await listAll(), 2, 'one for each principal')
  await alike[2]?.call('change')
  t.equal(await listAll(), 4, 'what one session is told of counts for all that share')
})

t.test('what an upstream that broke off may have changed is asked for again', async (t) => {
  const session = await open('free')
  const asked = counter(free, 'prompts/list')
  await session.request('prompts/list')
  free.scripts.set('tools/call break', (_request, response) => void response.destroy())
  t.equal((await session.call('break')).status, 502)
  await session.request('prompts/list')
  t.equal(asked(), 2)
})

t.test('requests at the same time share one fetch, and its failure is theirs alone', async (t) => {
  const session = await open('free')
  const asked = counter(free, 'resources/list')
  const held: ReceivedRequest[] = []
  free.scripts.set('resources/list', (request) => void held.push(request))
  const ask = async (id: number): Promise<{ status: number; id: unknown }> => {
    const answer = await session.post({ ...LIST, id })
    return { status: answer.status, id: answer.json().id }
  }
  const waiting = [1, 2, 3, 4, 5].map(ask)
  await eventually('one arrived', () => held.length === 1)
  const abort = new AbortController()
  const given = send(session.url, {
    headers: session.headers,
    body: JSON.stringify({ ...LIST, id: 6 }),
    signal: abort.signal,
  }).catch(() => 'given up')
  waiting.push(ask(7))
  abort.abort()
  t.equal(await given, 'given up')
  // As it is safe, it is sent once more when the connection was used before.
  free.scripts.set('resources/list', (_request, response) => void response.destroy())
  held[0]?.response.destroy()
  t.same(
    await Promise.all(waiting),
    [1, 2, 3, 4, 5, 7].map((id) => ({ status: 502, id })),
  )
  // Each fetch is tried twice, and one that arrives late begins the second; each for itself would be twelve.
  t.ok(asked() <= 4, `${asked()} of them`)
  held.length = 0
  free.scripts.set('resources/list', (request) => void held.push(request))
  const again = counter(free, 'resources/list')
  const second = [8, 9].map(ask)
  await eventually('the next one asks anew', () => held.length === 1)
  for (const request of held) sendResult(request, { resources: [] })
  t.same(await Promise.all(second), [
    { status: 200, id: 8 },
    { status: 200, id: 9 },
  ])
  t.same(await ask(10), { status: 200, id: 10 })
  t.equal(again(), 1)
  free.scripts.delete('resources/list')
})

t.test('the one whose request was sent may leave; those who wait are served', async (t) => {
  const session = await open('free', 'bob')
  const asked = counter(free, 'resources/list')
  const held: ReceivedRequest[] = []
  free.scripts.set('resources/list', (request) => void held.push(request))
  const abort = new AbortController()
  const first = send(session.url, {
    headers: session.headers,
    body: JSON.stringify({ ...LIST, id: 1 }),
    signal: abort.signal,
  }).catch(() => 'given up')
  await eventually('it arrived', () => held.length === 1)
  const second = session.post({ ...LIST, id: 2 })
  // Answered only after the second: they are taken in turn.
  await session.post({ jsonrpc: '2.0', id: 3, method: 'ping' })
  abort.abort()
  t.equal(await first, 'given up')
  for (const request of held) sendResult(request, { resources: [] })
  t.match((await second).json(), { id: 2, result: { resources: [] } })
  t.equal(asked(), 1)

  const alone = new AbortController()
  free.scripts.set('prompts/list', (request) => void held.push(request))
  const last = send(session.url, {
    headers: session.headers,
    body: JSON.stringify({ jsonrpc: '2.0', id: 4, method: 'prompts/list' }),
    signal: alone.signal,
  }).catch(() => 'given up')
  await eventually('it arrived', () => held.length === 2)
  alone.abort()
  await last
  await eventually('where nobody waits the upstream is left', () => held[1]?.isCut === true)
  free.scripts.delete('resources/list')
  free.scripts.delete('prompts/list')
})

t.test('a session sees its own tools drift, however many share a list', async (t) => {
  const tools = (description: string): void => {
    free.scripts.set('tools/list', (request) =>
      sendResult(request, {
        tools: [{ name: 'deed', description, inputSchema: { type: 'object' } }],
      }),
    )
  }
  const asked = counter(free, 'tools/list')
  tools('does good')
  const first = await open('pinned')
  t.match(await seen(first), 'does good')
  const second = await open('pinned')
  t.match(await seen(second), 'does good')
  t.equal(asked(), 1, 'a first list may come from memory')
  tools('does harm')
  t.match(await seen(second), /does harm/)
  t.equal(asked(), 2, 'every other is compared with what the upstream has now')
  await eventually('and told', () => replica.logs().includes('tools changed since this session'))
  const third = await open('pinned')
  t.match(await seen(third), 'does harm', 'what it found is what is shared from then on')
  t.equal(asked(), 2)
  free.scripts.delete('tools/list')
})

t.test('a list lives as long as the configuration says, and not at all with 0', async (t) => {
  for (const [seconds, most] of [
    [1, Infinity],
    [0, 0],
  ] as const) {
    const short = await startReplica({
      config: {
        core: { workers: 1, upstream_metadata_cache_ttl_seconds: seconds },
        servers: [{ id: 'a', mount_path: '/mcp/a', upstream: { url: free.url }, ...unpinned }],
      },
    })
    t.notMatch(short.logs(), 'without effect')
    const session = await WireSession.open(`${short.url}/mcp/a`)
    const asked = counter(free, 'prompts/list')
    let requests = 0
    const ask = async (): Promise<void> => {
      await session.request('prompts/list')
      requests++
    }
    await ask()
    await ask()
    if (most === 0) t.equal(asked(), 2)
    else {
      await eventually('it is asked for again', async () => {
        await ask()
        return asked() > 1
      })
      t.ok(requests > asked(), 'and not each time')
    }
    await short.stop()
  }
})
