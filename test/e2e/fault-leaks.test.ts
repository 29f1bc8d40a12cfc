// Thousands of sessions whose upstream fails in every way: afterwards there are no more connections, processes, sessions and memory than before.
import { Agent, createServer, request as httpRequest } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { readdirSync } from 'node:fs'

import t from 'tap'

import { eventually } from '../support/eventually.ts'
import { openDescriptors, residentMib } from '../support/process-stats.ts'
import { startReplica } from '../support/replica.ts'
import { resultOf } from '../support/upstreams/faulty-upstream.ts'
import { POST_HEADERS } from '../support/wire.ts'

t.setTimeout(600_000)

/** FAULT_SESSIONS=10000 looks longer. */
const SESSIONS = Number(process.env['FAULT_SESSIONS'] ?? 2_000)
const WARM_UP = 1_000
const AT_ONCE = 24
/** What memory may differ by from run to run, however many sessions there were. */
const NOISE_MIB = 40

/** How the call of a session fails; the client gives up where nobody answers. */
const WAYS = [
  'fine',
  'reset',
  'garbage',
  'half',
  'stream',
  'status',
  'lost',
  'hang',
  'stream left',
  'get',
] as const
type Way = (typeof WAYS)[number]

/** Sessions that the upstream has. */
const open = new Set<string>()
let minted = 0

function answer(request: IncomingMessage, body: string, response: ServerResponse): void {
  const { id, method, params } = (body === '' ? {} : JSON.parse(body)) as {
    id?: unknown
    method?: string
    params?: { name?: Way }
  } // the adapter sends JSON
  const sessionId = String(request.headers['mcp-session-id'])
  const json = { 'content-type': 'application/json' }
  if (method !== 'initialize' && !open.has(sessionId)) response.writeHead(404).end()
  else if (request.method === 'DELETE') {
    open.delete(sessionId)
    response.writeHead(200).end()
  } else if (request.method === 'GET') {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write(':\n\n')
  } else if (id === undefined) response.writeHead(202).end()
  else if (method === 'initialize') {
    const opened = `up-${++minted}`
    open.add(opened)
    response.writeHead(200, { ...json, 'mcp-session-id': opened })
    response.end(JSON.stringify({ jsonrpc: '2.0', id, result: resultOf(method) }))
  } else if (params?.name === 'fine' || method !== 'tools/call') {
    response.writeHead(200, json)
    response.end(JSON.stringify({ jsonrpc: '2.0', id, result: resultOf(method) }))
  } else fail(params?.name ?? 'fine', sessionId, id, response)
}

function fail(way: Way, sessionId: string, id: unknown, response: ServerResponse): void {
  const { socket } = response
  switch (way) {
    case 'reset':
      socket?.resetAndDestroy()
      return
    case 'garbage':
      socket?.end('no HTTP at all\r\n\r\n')
      return
    case 'half':
      response.writeHead(200, { 'content-type': 'application/json' })
      response.write('{"half":', () => socket?.resetAndDestroy())
      return
    case 'stream':
    case 'stream left':
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write('data: {"jsonrpc":"2.0","method":"notifications/progress"}\n\n', () => {
        if (way === 'stream') socket?.resetAndDestroy()
      })
      return
    case 'status':
      response.writeHead(500).end('broken')
      return
    case 'lost':
      // The call is repeated on a new session, where it comes here again: once lost, then fine.
      if (open.delete(sessionId) && Number(sessionId.slice(3)) % 2 === 0)
        response.writeHead(404).end()
      else {
        open.add(sessionId)
        response.writeHead(200, { 'content-type': 'application/json' })
        response.end(JSON.stringify({ jsonrpc: '2.0', id, result: {} }))
      }
      return
    case 'hang':
    case 'fine':
    case 'get':
    // Nothing is said; the others never come here.
  }
}

const upstream = createServer((request, response) => {
  let body = ''
  request.setEncoding('utf8').on('data', (part: string) => (body += part))
  request.on('end', () => answer(request, body, response)).on('error', () => {})
})
await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve))
const address = upstream.address()
if (address === null || typeof address === 'string') throw new Error('a TCP listener has a port')

const replica = await startReplica({
  config: {
    core: { workers: 1, cleanup_interval_seconds: 1, log_level: 'warning' },
    sessions: { idle_ttl_seconds: 2, allow_revival: false },
    servers: [
      {
        id: 'faulty',
        mount_path: '/mcp',
        upstream: { url: `http://127.0.0.1:${address.port}/mcp`, stream_linger_seconds: 0 },
      },
    ],
  },
})
const agent = new Agent({ keepAlive: true, maxSockets: 2 * AT_ONCE })
t.teardown(async () => {
  agent.destroy()
  await replica.stop()
  upstream.closeAllConnections()
  upstream.close()
})

interface Seen {
  readonly status: number
  readonly sessionId: string | undefined
  readonly body: string
}

/** Sends a request; with `leave`, gives up: at once, or at the first bytes of the answer. Resolves however it ends. */
function send(
  method: string,
  sessionId: string | undefined,
  message: object | undefined,
  leave?: 'at once' | 'at bytes',
): Promise<Seen | undefined> {
  return new Promise((resolve) => {
    const headers = {
      ...POST_HEADERS,
      ...(method === 'GET' ? { accept: 'text/event-stream' } : {}),
      ...(sessionId === undefined ? {} : { 'mcp-session-id': sessionId }),
    }
    const sent = httpRequest(`${replica.url}/mcp`, { method, headers, agent }, (response) => {
      const id = response.headers['mcp-session-id']
      let body = ''
      response.on('data', (part: Buffer) => {
        body += part.toString('latin1')
        if (leave === 'at bytes') sent.destroy()
      })
      const [status, own] = [response.statusCode ?? 0, id?.toString()]
      response.on('close', () => resolve({ status, sessionId: own, body })).on('error', () => {})
    })
    sent.on('error', () => resolve(undefined))
    sent.end(message === undefined ? undefined : JSON.stringify({ jsonrpc: '2.0', ...message }))
    // Once it is on its way.
    if (leave === 'at once') setTimeout(() => sent.destroy(), 10)
  })
}

const INITIALIZE = {
  id: 1,
  method: 'initialize',
  params: {
    protocolVersion: '2025-06-18',
    capabilities: {},
    clientInfo: { name: 'leaks', version: '1' },
  },
}

/** What an `initialize` got that opened no session. */
const failedOpenings: string[] = []

async function session(number: number): Promise<void> {
  const way = WAYS[number % WAYS.length] ?? 'fine'
  const opened = await send('POST', undefined, INITIALIZE)
  const id = opened?.sessionId
  if (id === undefined) {
    failedOpenings.push(opened === undefined ? 'no answer' : `${opened.status} ${opened.body}`)
    return
  }
  if (way === 'get') await send('GET', id, undefined, 'at bytes')
  else {
    const params = { name: way, arguments: {} }
    const leave = way === 'hang' ? 'at once' : way === 'stream left' ? 'at bytes' : undefined
    await send('POST', id, { id: 2, method: 'tools/call', params }, leave)
  }
  // One in fifty is forgotten by its client: it ends by its idle time.
  if (number % 50 !== 0) await send('DELETE', id, undefined)
}

async function run(count: number): Promise<void> {
  let next = 0
  const lane = async (): Promise<void> => {
    // oxlint-disable-next-line no-await-in-loop -- as one client after the other
    while (next < count) await session(next++)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, lane))
}

async function sessionsCount(): Promise<number | undefined> {
  const health = await fetch(`${replica.url}/healthz`)
  // Absent parts show as undefined.
  const report = (await health.json()) as {
    persistence?: { state_inventory?: { sessions_count?: number } }
  }
  return report.persistence?.state_inventory?.sessions_count
}

function threads(): number {
  return readdirSync(`/proc/${replica.pid}/task`).length
}

async function settled(limit: number): Promise<void> {
  agent.destroy()
  await eventually('the upstream has no session left', () => open.size === 0, 60_000)
  await eventually('nor has the store', async () => (await sessionsCount()) === 0, 60_000)
  await eventually(
    `no more than ${limit} descriptors`,
    () => openDescriptors(replica.pid) <= limit,
    60_000,
  )
}

t.test(`${SESSIONS} sessions whose upstream fails leave nothing behind`, async (t) => {
  const idle = openDescriptors(replica.pid)
  await run(WARM_UP)
  await settled(idle + 4)
  const [before, beforeMib] = [threads(), residentMib(replica.pid)]
  failedOpenings.length = 0
  await run(SESSIONS)
  t.same(failedOpenings, [], 'a failure in one session is nobody else’s')
  await settled(idle + 4)
  t.ok(threads() <= before, 'no thread or process more')
  const grown = residentMib(replica.pid) - beforeMib
  t.ok(grown < NOISE_MIB, `memory grew by ${Math.round(grown)} MiB`)
  t.notMatch(replica.logs(), /"level":[56]0/)
})
