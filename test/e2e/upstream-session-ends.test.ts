// The upstream's session ends with the client's, on the ways that other files do not show: by time, and when none comes of it.
// By DELETE and for want of room: protocol-lifecycle; by changed tools: hostile-catalogue; while the breaker is open: breaker.
import t from 'tap'

import { eventually } from '../support/eventually.ts'
import { startReplica } from '../support/replica.ts'
import {
  beginStream,
  event,
  idOf,
  sendJson,
  startScriptedUpstream,
} from '../support/upstreams/scripted-upstream.ts'
import type { Script } from '../support/upstreams/scripted-upstream.ts'
import { initialize, send, WireSession } from '../support/wire.ts'

t.setTimeout(60_000)

for (const [how, sessions] of [
  ['idle for its time, and revival is off', { idle_ttl_seconds: 1, allow_revival: false }],
  ['idle, and its time as a tombstone is over', { idle_ttl_seconds: 1, tombstone_ttl_seconds: 1 }],
] as const) {
  t.test(`a session that is ${how} takes its upstream session along`, async (t) => {
    const upstream = await startScriptedUpstream()
    const replica = await startReplica({
      config: {
        core: { workers: 2, cleanup_interval_seconds: 1 },
        sessions,
        servers: [{ id: 'one', mount_path: '/mcp', upstream: { url: upstream.url } }],
      },
    })
    t.teardown(async () => {
      await replica.stop()
      await upstream.stop()
    })
    const opened = [await WireSession.open(`${replica.url}/mcp`)]
    opened.push(await WireSession.open(`${replica.url}/mcp`))
    await eventually('both are ended at the upstream', () => upstream.sessions.size === 0)
    t.equal(upstream.requests('DELETE').length, opened.length)
  })
}

const ID = { 'mcp-session-id': 'stray' }

/** Each opens a session at the upstream and answers nothing that a session can be made of. */
const useless = new Map<string, { readonly script: Script; readonly status: number }>([
  [
    'an error',
    {
      status: 200,
      script: (request, response) =>
        sendJson(
          response,
          { jsonrpc: '2.0', id: idOf(request), error: { code: -32602, message: 'no' } },
          ID,
        ),
    },
  ],
  [
    'an error as an event',
    {
      status: 200,
      script: (request, response) => {
        beginStream(response, ID)
        const error = { code: -32602, message: 'no' }
        response.end(event({ jsonrpc: '2.0', id: idOf(request), error }))
      },
    },
  ],
  [
    'a stream without an answer',
    {
      status: 200,
      script: (_request, response) => {
        beginStream(response, ID)
        response.end(event({ jsonrpc: '2.0', method: 'notifications/message', params: {} }))
      },
    },
  ],
  [
    'what is no JSON',
    {
      status: 502,
      script: (_request, response) =>
        void response.writeHead(200, { 'content-type': 'application/json', ...ID }).end('{'),
    },
  ],
  [
    'what is no MCP',
    {
      status: 200,
      script: (_request, response) =>
        void response.writeHead(200, { 'content-type': 'text/html', ...ID }).end('<p>'),
    },
  ],
  [
    'too much',
    {
      status: 502,
      script: (_request, response) => {
        response.writeHead(200, { 'content-type': 'application/json', ...ID })
        response.end(Buffer.alloc(5 * 1024 * 1024, 'x'))
      },
    },
  ],
  [
    'half an answer',
    {
      status: 502,
      script: (_request, response) => {
        response.writeHead(200, {
          'content-type': 'application/json',
          'content-length': '1000',
          ...ID,
        })
        response.write('{', () => response.destroy())
      },
    },
  ],
])

t.test('an upstream that gave an id and no session is told that nobody uses it', async (t) => {
  const upstream = await startScriptedUpstream()
  const replica = await startReplica({
    config: {
      core: { workers: 1, upstream_ping: { enabled: false } },
      servers: [{ id: 'one', mount_path: '/mcp', upstream: { url: upstream.url } }],
    },
  })
  t.teardown(async () => {
    await replica.stop()
    await upstream.stop()
  })
  for (const [what, { script, status }] of useless) {
    upstream.sessions.add('stray')
    upstream.scripts.set('initialize', script)
    const answer = await initialize(`${replica.url}/mcp`)
    t.equal(answer.status, status, what)
    t.equal(answer.headers['mcp-session-id'], undefined, 'no id is handed on')
    await eventually(`${what}: it is ended`, () => !upstream.sessions.has('stray'))
  }
  t.equal(upstream.requests('DELETE').length, useless.size, 'once each')
  t.equal((await send(`${replica.url}/livez`, { method: 'GET' })).status, 200)
})
