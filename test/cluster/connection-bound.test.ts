/** Sessions whose server is a process of one replica, used through the others: what clients see while it lives, and when it does not. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'
import type { Test } from 'tap'

import { healthOf } from '../support/breaker-rig.ts'
import { startCluster } from '../support/cluster.ts'
import type { Cluster, ClusterReplica } from '../support/cluster.ts'
import { eventually, within } from '../support/eventually.ts'
import { childrenOf, commandOf, isAlive } from '../support/process-table.ts'
import { startReplica } from '../support/replica.ts'
import { noted } from '../support/secret-scan.ts'
import { stdioSection } from '../support/upstreams/stdio/stdio-section.ts'
import { answerIn, messagesIn, POST_HEADERS, send, WireSession } from '../support/wire.ts'
import type { RpcAnswer, WireAnswer } from '../support/wire.ts'

t.setTimeout(600_000)

const VERSION = '2025-06-18'
const TOKEN = noted('the-token-that-clients-have')

const workspace = await mkdtemp(join(tmpdir(), 'adapter-bound-'))
t.teardown(() => rm(workspace, { recursive: true, force: true, maxRetries: 5 }))

/** Three replicas, and a client's session through each of them that was opened on the first. */
async function world(t: Test, upstream: Readonly<Record<string, unknown>> = {}): Promise<World> {
  const cluster = await startCluster(t, {
    core: { workers: 2, auth: { enabled: true, token: TOKEN } },
    servers: () => [stdioSection('files', { workspace, more: upstream })],
  })
  const [a, b, c] = cluster.replicas
  if (a === undefined || b === undefined || c === undefined) throw new Error('three replicas')
  const onA = await openOn(a)
  return { cluster, a, b, c, onA, onB: seenOn(onA, b), onC: seenOn(onA, c) }
}

interface World {
  readonly cluster: Cluster
  readonly a: ClusterReplica
  readonly b: ClusterReplica
  readonly c: ClusterReplica
  readonly onA: WireSession
  readonly onB: WireSession
  readonly onC: WireSession
}

const CREDENTIALS = { 'x-mcp-adapter-auth-token': TOKEN }

/** Opens a session of a client that can be asked. */
async function openOn({ url }: { readonly url: string }): Promise<WireSession> {
  const endpoint = `${url}/mcp/files`
  const params = {
    protocolVersion: VERSION,
    capabilities: { elicitation: {} },
    clientInfo: { name: 'wire', version: '1' },
  }
  const answer = await send(endpoint, {
    headers: { ...POST_HEADERS, ...CREDENTIALS },
    body: JSON.stringify({ jsonrpc: '2.0', id: 'init', method: 'initialize', params }),
  })
  const id = answer.headers['mcp-session-id']
  if (typeof id !== 'string') throw new Error(`${answer.status} ${answer.body}`)
  const session = new WireSession(endpoint, id, VERSION, CREDENTIALS)
  await session.post({ jsonrpc: '2.0', method: 'notifications/initialized' })
  return session
}

/** The same session through another replica; ids of its requests are its own. */
function seenOn(session: WireSession, { url }: ClusterReplica): WireSession {
  return new WireSession(`${url}/mcp/files`, session.id, VERSION, CREDENTIALS)
}

function textOf(answer: RpcAnswer): string {
  const [block] = (answer.result?.['content'] ?? []) as readonly { text?: string }[] // what the tools answer
  return block?.text ?? JSON.stringify(answer)
}

async function pidOf(session: WireSession): Promise<number> {
  const answer = await session.call('process')
  const { pid } = JSON.parse(textOf(answerIn(answer))) as { pid?: number } // what the tool answers
  if (pid === undefined) throw new Error(`no process: ${answer.status} ${answer.body}`)
  return pid
}

/** The servers that a replica runs. */
function serversOf({ pid }: { readonly pid: number }): readonly number[] {
  return childrenOf(pid).filter((child) => commandOf(child).includes('stdio-server-main'))
}

/** A request whose id no other has. */
let lastId = 1_000
function calling(
  name: string,
  args: object = {},
): {
  readonly jsonrpc: string
  readonly id: number
  readonly method: string
  readonly params: object
} {
  lastId++
  return { jsonrpc: '2.0', id: lastId, method: 'tools/call', params: { name, arguments: args } }
}

t.test(
  'a session is used through any replica, in both directions, until it is ended',
  async (t) => {
    const { a, onA, onB, onC } = await world(t)
    const pid = await pidOf(onA)
    t.equal(await pidOf(onB), pid, 'one process through A and B')
    t.equal(await pidOf(onC), pid, 'and C')
    t.ok(serversOf(a).includes(pid), 'it is a child of A')

    const asked = await onB.stream(calling('ask'))
    await asked.until('elicitation/create')
    const question = messagesIn(asked.text()).find(({ method }) => method === 'elicitation/create')
    const told = await onC.post({
      jsonrpc: '2.0',
      id: question?.id,
      result: { action: 'accept', content: { name: 'Ada' } },
    })
    t.equal(told.status, 202)
    await asked.until('Hello Ada')

    const waiting = calling('wait')
    const pending = onB.stream(waiting)
    await eventually('it waits', () => a.logs().includes('waiting'))
    const standing = await onB.get()
    t.equal(standing.status, 200)
    const other = calling('wait')
    const otherPending = onA.stream(other)
    await eventually('both wait', () => a.logs().split('waiting').length > 2)
    t.equal(textOf(answerIn(await onC.call('grow'))), 'done')
    await standing.until('notifications/tools/list_changed')
    for (const { id } of [waiting, other]) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await onC.post({
        jsonrpc: '2.0',
        method: 'notifications/cancelled',
        params: { requestId: id, reason: 'enough' },
      })
    }
    await eventually('both are cancelled', () => a.logs().split('cancelled').length > 2)
    await within(
      'their answers end',
      Promise.all([pending, otherPending].map(async (p) => (await p).ended)),
    )
    standing.close()

    t.equal((await onC.delete()).status, 200)
    await eventually('the process ends', () => !isAlive(pid))
    t.equal((await onB.request('ping')).status, 404)
  },
)

t.test('what a call waits for reaches it while its server takes no other calls', async (t) => {
  const { onA, onB, onC } = await world(t, { max_in_flight: 1 })
  const asked = await onB.stream(calling('ask'))
  await asked.until('elicitation/create')
  const refused = await onA.post(calling('process'))
  t.equal(refused.status, 503)
  t.match(answerIn(refused).error, { data: { code: 'ADAPTER_UPSTREAM_BUSY' } })
  const question = messagesIn(asked.text()).find(({ method }) => method === 'elicitation/create')
  const content = { name: 'Ada' }
  const told = await onC.post({
    jsonrpc: '2.0',
    id: question?.id,
    result: { action: 'accept', content },
  })
  t.equal(told.status, 202)
  await asked.until('Hello Ada')
})

t.test('a large answer crosses replicas whole, to a client that reads slowly', async (t) => {
  const { onB } = await world(t)
  const bytes = 24 * 1_048_576
  const stream = await onB.stream(calling('long', { bytes }))
  stream.pause()
  t.equal(await pidOf(onB), await pidOf(onB), 'others are served meanwhile')
  stream.resume()
  t.equal(await within('the end', stream.ended, 30_000), 'end')
  t.ok(stream.bytes().byteLength > bytes, 'all of it came')
})

t.test('a session whose holder was killed goes on with a new server', async (t) => {
  const { a, onA, onB, onC } = await world(t)
  const pid = await pidOf(onA)
  await a.kill()
  const next = await within('an answer', pidOf(onB))
  t.not(next, pid)
  t.equal(await pidOf(onC), next, 'the others find it at its new place')
})

t.test(
  'a call that the holder had in hand when it was killed fails, and is not repeated',
  async (t) => {
    const { a, onB } = await world(t)
    const waiting = calling('wait')
    const pending = onB.post(waiting)
    await eventually('it waits', () => a.logs().includes('waiting'))
    await a.kill()
    const answer = await within('an answer', pending)
    t.equal(answer.status, 502)
    const { error } = answerIn(answer)
    t.match(error, { data: { code: 'ADAPTER_UPSTREAM_UNREACHABLE' } })
    t.match(error?.message, /not known/)
    t.ok((await pidOf(onB)) > 0, 'the session goes on')
  },
)

t.test(
  'a holder that stands still is given up, and ends what it held when it goes on',
  async (t) => {
    const { a, onA, onB } = await world(t)
    const pid = await pidOf(onA)
    const pending = onB.post(calling('wait'))
    await eventually('it waits', () => a.logs().includes('waiting'))
    a.pause()
    let isPaused = true
    t.teardown(() => {
      if (isPaused) a.resume()
    })
    const failed = await within('the call in hand fails', pending, 20_000)
    t.equal(failed.status, 502)
    const next = await within('an answer', pidOf(onB), 20_000)
    t.not(next, pid)
    a.resume()
    isPaused = false
    await eventually('the old server is ended', () => !isAlive(pid))
    t.equal(await pidOf(onA), next, 'who was away finds the new one')
  },
)

t.test(
  'a holder that stops finishes what others asked of it, then the session moves',
  async (t) => {
    const { a, onA, onB } = await world(t)
    const pid = await pidOf(onA)
    const asked = await onB.stream(calling('ask'))
    await asked.until('elicitation/create')
    const standing = await onB.get()
    const stopped = a.stop()
    await eventually('it takes no more clients', () =>
      send(`${a.url}/livez`, { method: 'GET' }).then(
        () => false,
        () => true,
      ),
    )
    const question = messagesIn(asked.text()).find(({ method }) => method === 'elicitation/create')
    const content = { name: 'Ada' }
    const told = await onB.post({
      jsonrpc: '2.0',
      id: question?.id,
      result: { action: 'accept', content },
    })
    t.equal(told.status, 202)
    await asked.until('Hello Ada')
    t.equal(await within('it ends', stopped, 30_000), 0)
    await eventually('the session is used again', async () => {
      const { status } = await onB.request('ping')
      return status === 200
    })
    t.not(await pidOf(onB), pid)
    t.notOk(isAlive(pid))
    standing.close()
  },
)

function ask(url: string, headers: Readonly<Record<string, string>>): Promise<WireAnswer> {
  return send(url, { headers: { ...POST_HEADERS, ...headers }, body: '{}' })
}

t.test('what clients have opens nothing on the hop, and the hop is nowhere else', async (t) => {
  const { a, b, cluster } = await world(t)
  const hopUrl = /reached by other replicas at (http:\/\/127\.0\.0\.1:\d+)/.exec(a.logs())?.[1]
  if (hopUrl === undefined) throw new Error('no address in the log')
  for (const headers of [
    {},
    CREDENTIALS,
    { authorization: `Bearer ${TOKEN}` },
    { 'x-mcp-hop': '0.AAAAAAAAAAAAAAAA.1.1.' + 'A'.repeat(43) + '.' + 'A'.repeat(43) },
  ]) {
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    t.equal((await ask(`${hopUrl}/hop`, headers)).status, 401)
  }
  t.equal((await ask(`${b.url}/hop`, CREDENTIALS)).status, 404)
  t.notMatch(cluster.logs(), /requests of another replica are refused/)
})

t.test('sessions of all workers of one replica end, whichever of them clears up', async (t) => {
  const replica = await startReplica({
    config: {
      core: { workers: 3, cleanup_interval_seconds: 1 },
      sessions: { idle_ttl_seconds: 2, allow_revival: false },
      servers: [stdioSection('files', { workspace })],
    },
  })
  t.teardown(() => replica.stop())
  const sessions = await Promise.all(
    Array.from({ length: 6 }, () => WireSession.open(`${replica.url}/mcp/files`)),
  )
  t.equal(serversOf(replica).length, sessions.length)
  await eventually('all servers are ended', async () => serversOf(replica).length === 0)
})

async function failures(replica: ClusterReplica): Promise<number> {
  return (await healthOf(replica)).server.breaker.consecutive_failures
}

t.test('a call through another replica that times out counts for the holder', async (t) => {
  const cluster = await startCluster(t, {
    replicas: 2,
    servers: () => [
      {
        ...stdioSection('files', { workspace }),
        tool_defaults: { tool_call_timeout_seconds: 1 },
        upstream_ping: { failure_threshold: 9 },
      },
    ],
  })
  const [a, b] = cluster.replicas
  if (a === undefined || b === undefined) throw new Error('two replicas')
  const onB = seenOn(await openOn(a), b)
  t.equal((await onB.request('ping')).status, 200)
  for (const count of [1, 2]) {
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    t.equal((await onB.post(calling('wait'))).status, 504)
    // oxlint-disable-next-line no-await-in-loop -- as above
    await eventually(`${count} are counted`, async () => (await failures(a)) === count)
  }
  t.equal(await failures(b), 0, 'whose own connections are not concerned')
  t.equal((await onB.request('ping')).status, 200)
  t.equal(await failures(a), 0)
})
