// Whose credentials an upstream refuses: the operator's (a failure behind the adapter) or the client's own (its to mend).
import type { ServerResponse } from 'node:http'

import t from 'tap'

import { startReplica } from '../support/replica.ts'
import { noted } from '../support/secret-scan.ts'
import { startScriptedSse } from '../support/upstreams/scripted-sse.ts'
import { startScriptedUpstream } from '../support/upstreams/scripted-upstream.ts'
import { initialize, POST_HEADERS, send, WireSession } from '../support/wire.ts'
import type { WireAnswer } from '../support/wire.ts'

const CHALLENGE = 'Bearer resource_metadata="https://upstream.example/.well-known/it"'
const TOKEN = noted('token-for-the-upstream-1234')

const upstream = await startScriptedUpstream()
const sse = await startScriptedSse()
const replica = await startReplica({
  config: {
    core: { workers: 1 },
    servers: [
      {
        id: 'operators',
        mount_path: '/mcp/operators',
        upstream: { url: upstream.url, static_headers: { Authorization: `Bearer ${TOKEN}` } },
      },
      {
        id: 'clients',
        mount_path: '/mcp/clients',
        upstream: { url: upstream.url, client_headers: { passthrough: ['AUTHORIZATION'] } },
      },
      {
        id: 'sse-operators',
        mount_path: '/mcp/sse-operators',
        upstream: { transport: 'sse', url: sse.url },
      },
      {
        id: 'sse-clients',
        mount_path: '/mcp/sse-clients',
        upstream: {
          transport: 'sse',
          url: sse.url,
          client_headers: { passthrough: ['Authorization'] },
        },
      },
    ],
  },
})
t.teardown(async () => {
  await replica.stop()
  await Promise.all([upstream.stop(), sse.stop()])
})

function refuse(status: number, ...requests: readonly string[]): void {
  for (const request of requests) {
    upstream.scripts.set(request, (_request, response) => {
      response.writeHead(status, { 'www-authenticate': CHALLENGE }).end('who?')
    })
  }
}

const ALL = ['initialize', 'GET', 'tools/list', 'tools/call any'] as const

t.test('what refuses the operator’s credentials is an upstream failure to clients', async (t) => {
  const url = `${replica.url}/mcp/operators`
  const session = await WireSession.open(url)
  refuse(401, ...ALL)
  const initialized = await initialize(url)
  const listed = await session.request('tools/list')
  const called = await session.call('any')
  const message = { jsonrpc: '2.0', id: 7, method: 'ping' }
  for (const answer of [initialized, listed, called]) {
    t.equal(answer.status, 502)
    t.match(answer.json(), {
      error: { code: 1502, data: { code: 'ADAPTER_UPSTREAM_REFUSED', retryable: false } },
    })
    t.equal(answer.headers['www-authenticate'], undefined)
    t.notMatch(answer.body, /who\?|upstream\.example/)
  }
  const stream = await session.get()
  await stream.ended
  t.equal(stream.status, 502)
  t.match(stream.text(), /ADAPTER_UPSTREAM_REFUSED/)
  t.equal((await session.post(message)).status, 200, 'other requests of the session are served')
  for (const request of ALL) upstream.scripts.delete(request)
  t.equal((await session.call('any')).status, 200, 'and it goes on when the upstream is mended')
  refuse(403, 'tools/call any')
  const forbidden = await session.call('any')
  t.same([forbidden.status, forbidden.body], [403, 'who?'], 'a 403 is the upstream’s word')
  t.equal(forbidden.headers['www-authenticate'], undefined)
  upstream.scripts.delete('tools/call any')
})

t.test('what refuses a client’s own token is told to the client, with the challenge', async (t) => {
  const url = `${replica.url}/mcp/clients`
  const session = await WireSession.open(url)
  for (const status of [401, 403]) {
    refuse(status, ...ALL)
    const answers = [
      await initialize(url),
      await session.request('tools/list'),
      await session.call('any'),
    ]
    for (const answer of answers) {
      t.same([answer.status, answer.body], [status, 'who?'])
      t.equal(answer.headers['www-authenticate'], CHALLENGE)
    }
    const stream = await session.get()
    await stream.ended
    t.same([stream.status, stream.text()], [status, 'who?'])
    t.equal(stream.headers['www-authenticate'], CHALLENGE)
    for (const request of ALL) upstream.scripts.delete(request)
  }
  const headers = { ...POST_HEADERS, 'mcp-session-id': session.id, authorization: 'Bearer mine' }
  await send(url, { headers, body: '{"jsonrpc":"2.0","id":1,"method":"ping"}' })
  t.equal(upstream.received.at(-1)?.headers['authorization'], 'Bearer mine')
})

/** Answers the messages of a session on its stream, which is the last one. */
function answerOnStream(): void {
  delete sse.scripts.stream
  sse.scripts.post = ({ body }, response) => {
    response.writeHead(202).end()
    const { id } = JSON.parse(body) as { id?: unknown } // the adapter sends JSON-RPC
    const result = { protocolVersion: '2025-06-18', capabilities: {}, serverInfo: {} }
    const message = JSON.stringify({ jsonrpc: '2.0', id, result })
    if (id !== undefined) sse.streams.at(-1)?.response.write(`event: message\ndata: ${message}\n\n`)
  }
}

t.test('over HTTP+SSE it is the same, on the stream and on messages', async (t) => {
  const refuseAs = (status: number) => (response: ServerResponse) =>
    void response.writeHead(status, { 'www-authenticate': CHALLENGE }).end('who?')
  for (const [id, challenge] of [
    ['sse-operators', undefined],
    ['sse-clients', CHALLENGE],
  ] as const) {
    answerOnStream()
    const url = `${replica.url}/mcp/${id}`
    const session = await WireSession.open(url)
    const { length } = sse.streams
    for (const status of [401, 403]) {
      sse.scripts.post = (_request, response) => refuseAs(status)(response)
      const answers: WireAnswer[] = []
      // More of them than failures open a breaker.
      for (let n = 0; n < 4; n++) answers.push(await session.call('any'))
      t.equal(sse.streams.length, length, 'the session keeps its stream')
      sse.scripts.stream = refuseAs(status)
      answers.push(await initialize(url))
      for (const answer of answers) {
        t.equal(answer.headers['www-authenticate'], challenge)
        if (status === 401 && challenge === undefined) {
          t.equal(answer.status, 502)
          t.match(answer.body, /ADAPTER_UPSTREAM_REFUSED/)
          t.notMatch(answer.body, /who\?/)
        } else t.same([answer.status, answer.body], [status, 'who?'])
      }
      answerOnStream()
      sse.streams.splice(length)
      t.equal((await session.call('any')).status, 200, 'and it goes on')
    }
  }
})
