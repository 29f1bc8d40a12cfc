/** A hundred clients on three replicas race for the last of something, again and again: one gets it, each time, and the rest are told so. */
import { randomBytes } from 'node:crypto'

import t from 'tap'
import type { Test } from 'tap'

import { parseSessionId } from '../../src/shared/ids.ts'
import { UrlSigner } from '../../src/shared/signing.ts'
import { startCluster } from '../support/cluster.ts'
import { eventually, within } from '../support/eventually.ts'
import { INITIALIZE, MCP_HEADERS } from '../support/file-rig.ts'
import { idOf, sendJson, startScriptedUpstream } from '../support/upstreams/scripted-upstream.ts'
import type { ReceivedRequest } from '../support/upstreams/scripted-upstream.ts'

t.setTimeout(600_000)

const ROUNDS = 100
const CLIENTS = 100
const SECRET = 'a secret for the tests'

/** What is left for the races when the filler is stored, in bytes. */
const ROOM_BYTES = 1_000
const FILLER_BYTES = 99_000

const upstream = await startScriptedUpstream()
t.teardown(() => upstream.stop())
const waiting: ReceivedRequest[] = []
upstream.scripts.set('tools/call wait', (request) => void waiting.push(request))
const signer = new UrlSigner({ secrets: [SECRET] })
const cluster = await startCluster(t, {
  core: { auth: { signing_secret: SECRET } },
  sections: {
    // The two sessions below, and the one slot that is raced for.
    sessions: { max_active: 3, max_in_flight_per_session: 2 },
    // What a crash of the machine may lose is not what this is about.
    storage: { max_size: FILLER_BYTES + ROOM_BYTES, atomic_writes: false },
    uploads: { ttl_seconds: 3600 },
  },
  servers: () => [
    {
      id: 'raced',
      mount_path: '/mcp/raced',
      upstream: { url: upstream.url },
      adapters: [{ type: 'upload_consumer', tools: ['read'], file_path_argument: 'path' }],
      tool_defaults: { tool_call_timeout_seconds: null },
    },
  ],
})
const urls = cluster.replicas.map((replica) => replica.url)
const filler = await openSession(0)
const filled = await upload(0, filler, nonce(), FILLER_BYTES)
if (filled !== 200) throw new Error(`the filler was answered ${filled}`)
const busy = await openSession(0)

t.test('the last session slot', async (t) => {
  await races(t, { 200: 1, 429: CLIENTS - 1 }, async () => {
    const answers = await all((client) => initialize(client))
    for (const { sessionId } of answers) if (sessionId !== null) await close(sessionId)
    return answers.map(({ status }) => status)
  })
  await eventually(
    'no upstream session is left of those that lost',
    () => upstream.sessions.size === 2,
  )
})

t.test('the last byte of the quota', async (t) => {
  await races(t, { 200: 1, 507: CLIENTS - 1 }, async () => {
    const session = await openSession(0)
    const statuses = await all((client) => upload(client, session, nonce(), ROOM_BYTES))
    await close(session)
    return statuses
  })
})

t.test('the last place for a call in a session', async (t) => {
  const held = call(0, busy)
  await eventually('one place is taken', () => waiting.length === 1)
  await races(t, { 200: 1, 429: CLIENTS - 1 }, async () => {
    let refused = 0
    const statuses = all(async (client) => {
      const status = await call(client, busy)
      if (status === 429) refused++
      return status
    })
    await eventually(
      'one is at the upstream, and all others are refused',
      () => refused === CLIENTS || (refused === CLIENTS - 1 && waiting.length === 2),
    )
    // The first is the one that holds the other place.
    for (const request of waiting.splice(1)) release(request)
    return statuses
  })
  for (const request of waiting.splice(0)) release(request)
  t.equal(await held, 200)
})

t.test('an upload URL, which works once', async (t) => {
  await races(t, { 200: 1, 410: CLIENTS - 1 }, async () => {
    const session = await openSession(0)
    const once = nonce()
    const statuses = await all((client) => upload(client, session, once, 10))
    await close(session)
    return statuses
  })
})

/** Runs the rounds; each must give exactly these numbers of answers by status. */
async function races(
  t: Test,
  expected: Readonly<Record<number, number>>,
  round: () => Promise<readonly number[]>,
): Promise<void> {
  const wrong: unknown[] = []
  for (let index = 0; index < ROUNDS; index++) {
    const counts: Record<number, number> = {}
    for (const status of await within('a round', round(), 30_000)) {
      counts[status] = (counts[status] ?? 0) + 1
    }
    if (JSON.stringify(counts) !== JSON.stringify(expected)) wrong.push({ round: index, counts })
  }
  t.same(wrong, [], `in each of ${ROUNDS} rounds one of ${CLIENTS} gets it`)
}

/** One request of each client, all at once. */
function all<T>(request: (client: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: CLIENTS }, (_, client) => request(client)))
}

/** Clients take the replicas in turn. */
function urlFor(client: number): string {
  return urls[client % urls.length] ?? ''
}

async function initialize(client: number) {
  const answer = await fetch(`${urlFor(client)}/mcp/raced`, {
    method: 'POST',
    headers: MCP_HEADERS,
    body: INITIALIZE,
  })
  await answer.arrayBuffer()
  return { status: answer.status, sessionId: answer.headers.get('mcp-session-id') }
}

async function openSession(client: number): Promise<string> {
  const { status, sessionId } = await initialize(client)
  if (sessionId === null) throw new Error(`no session: ${status}`)
  return sessionId
}

async function close(sessionId: string): Promise<void> {
  const headers = { 'mcp-session-id': sessionId }
  const answer = await fetch(`${urlFor(1)}/mcp/raced`, { method: 'DELETE', headers })
  await answer.arrayBuffer()
  if (answer.status !== 200) throw new Error(`the end of a session was answered ${answer.status}`)
}

async function call(client: number, sessionId: string): Promise<number> {
  const message = { jsonrpc: '2.0', id: client, method: 'tools/call', params: { name: 'wait' } }
  const answer = await fetch(`${urlFor(client)}/mcp/raced`, {
    method: 'POST',
    headers: { ...MCP_HEADERS, 'mcp-session-id': sessionId },
    body: JSON.stringify(message),
  })
  await answer.arrayBuffer()
  return answer.status
}

async function upload(
  client: number,
  sessionId: string,
  once: string,
  bytes: number,
): Promise<number> {
  const id = parseSessionId(sessionId)
  if (id === undefined) throw new Error(`no session id: ${sessionId}`)
  const expiresAtSeconds = Math.floor(Date.now() / 1_000) + 60
  const query = signer.signUpload({
    serverId: 'raced',
    sessionId: id,
    expiresAtSeconds,
    nonce: once,
  })
  const answer = await fetch(`${urlFor(client)}/upload/raced?${query}`, {
    method: 'PUT',
    body: 'x'.repeat(bytes),
  })
  await answer.arrayBuffer()
  return answer.status
}

function nonce(): string {
  return randomBytes(18).toString('base64url')
}

function release(request: ReceivedRequest): void {
  sendJson(request.response, { jsonrpc: '2.0', id: idOf(request), result: { content: [] } })
}
