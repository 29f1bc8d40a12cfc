// The fault matrix: each way in which an upstream can fail, at each kind of request, is what docs/faults.md says that a client gets, within a bound; the
// session goes on when the upstream is well again, and nothing is left behind.
import { readFile } from 'node:fs/promises'

import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { openDescriptors } from '../support/process-stats.ts'
import { startReplica } from '../support/replica.ts'
import type { Replica } from '../support/replica.ts'
import { startFaultySse } from '../support/upstreams/faulty-sse.ts'
import { startFaultyStdio } from '../support/upstreams/faulty-stdio.ts'
import { FAULTS, OPERATIONS, startFaultyHttp } from '../support/upstreams/faulty-upstream.ts'
import type { Fault, FaultyUpstream, Operation } from '../support/upstreams/faulty-upstream.ts'
import { sendResult, startScriptedUpstream } from '../support/upstreams/scripted-upstream.ts'
import { initialize, WireSession } from '../support/wire.ts'
import type { WireStream } from '../support/wire.ts'

t.setTimeout(300_000)

/** Each transport, by its heading in the document. */
const TRANSPORTS: Readonly<Record<string, () => Promise<FaultyUpstream>>> = {
  'Streamable HTTP': startFaultyHttp,
  'HTTP+SSE': startFaultySse,
  stdio: startFaultyStdio,
}

/** In place of an outcome: the transport has no such fault, or no such request. */
const ABSENT = '–'

/** No outcome takes longer, with limits of one second. In milliseconds. */
const BOUND_MS = 15_000

const faults = Object.keys(FAULTS) as Fault[] // the keys of a constant
const page = await readFile('docs/faults.md', 'utf8')

/** The table under a heading: the outcome by `fault operation`. */
function documented(heading: string): Map<string, string> {
  const [, section = ''] = page.split(`## ${heading}\n`)
  const [table = ''] = section.split('\n## ')
  const rows = table.split('\n').filter((line) => line.startsWith('| '))
  const cells = rows.map((line) =>
    line
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim()),
  )
  const outcomes = new Map<string, string>()
  for (const [description, ...row] of cells) {
    const fault = faults.find((one) => FAULTS[one] === description)
    if (fault === undefined) continue
    for (const [index, operation] of OPERATIONS.entries())
      outcomes.set(`${fault} ${operation}`, row[index] ?? '')
  }
  return outcomes
}

interface Cell {
  readonly url: string
  readonly upstream: FaultyUpstream
  readonly operation: Operation
  readonly fault: Fault
  /** Whether there is to be no answer. */
  readonly waits: boolean
}

/** Makes the request fail; answers what the client sees, in the words of the document. */
async function outcomeOf(cell: Cell): Promise<string> {
  const { url, upstream, operation, fault } = cell
  if (operation === 'initialize') {
    await upstream.fail(operation, fault)
    const answer = await initialize(url)
    const id = answer.headers['mcp-session-id']
    if (typeof id === 'string') await new WireSession(url, id, '2025-06-18').delete()
    return told(answer.status, answer.body, 'init', answer.headers['mcp-session-id'] !== undefined)
  }
  const session = await WireSession.open(url)
  await upstream.fail(operation, fault)
  let outcome = await request(session, cell)
  // Its end may not have been noticed yet.
  if (fault === 'restarts' && outcome.startsWith('502')) outcome = await request(session, cell)
  await upstream.heal()
  if (operation !== 'DELETE') {
    const after = await session.call('any')
    if (after.status !== 200 || after.json().result === undefined)
      return `${outcome}, and the session is lost: ${after.status} ${after.body}`
    await session.delete()
  }
  return outcome
}

async function request(session: WireSession, cell: Cell): Promise<string> {
  const { operation } = cell
  if (operation === 'DELETE') return String((await session.delete()).status)
  if (operation === 'GET') return streamOutcome(session, cell)
  const params = operation === 'tools/call' ? { name: 'any', arguments: {} } : undefined
  const message = session.message(operation, params)
  const stream = await session.stream(message)
  const how = await stream.ended
  if (how === 'cut') return `${stream.status} and cut`
  return told(stream.status, stream.text(), message.id)
}

async function streamOutcome(
  session: WireSession,
  { upstream, fault, waits }: Cell,
): Promise<string> {
  let stream: WireStream | undefined
  let failure: unknown
  const leave = new AbortController()
  const opening = session.get({}, leave.signal).then(
    (opened) => (stream = opened),
    (error: unknown) => (failure = error),
  )
  // As soon as the upstream has seen it and another request went through after it, an answer that was to come at once is there.
  const seen = async (): Promise<boolean> => {
    if (upstream.arrived('GET') === 0) return false
    await session.post({ jsonrpc: '2.0', method: 'notifications/none' })
    await session.post({ jsonrpc: '2.0', method: 'notifications/none' })
    return true
  }
  if (waits) await Promise.race([opening, eventually('the upstream is asked', seen, BOUND_MS)])
  else await opening
  if (stream === undefined && failure === undefined) {
    leave.abort()
    await opening
    return 'waits'
  }
  if (stream === undefined) throw failure
  const isStream = stream.headers['content-type'] === 'text/event-stream'
  if (!isStream) return told(stream.status, await textOf(stream), null)
  // One that breaks off does so in a moment; any other is open while requests are answered.
  const calls = fault === 'resets' ? [] : [session.call('any').then(() => 'open' as const)]
  const how = await Promise.race([stream.ended, ...calls])
  stream.close()
  return `${stream.status} and ${how}`
}

async function textOf(stream: WireStream): Promise<string> {
  await stream.ended
  return stream.text()
}

/** What was answered: with whose error, under which id. */
function told(
  status: number,
  body: string,
  id: string | number | null,
  hasSession = false,
): string {
  if (body === 'the words of the upstream') return `${status} as it is`
  if (body === '') return String(status)
  const answer = JSON.parse(body) as { id?: unknown; result?: unknown; error?: { code: number } } // what else it holds is compared
  if (answer.id !== id) return `${status} with the id ${JSON.stringify(answer.id)}`
  if (answer.error !== undefined) return `${status} (${answer.error.code})`
  return hasSession || answer.result !== undefined ? `${status} and a result` : `${status} ${body}`
}

for (const [heading, start] of Object.entries(TRANSPORTS)) {
  t.test(`${heading}: a client gets what the document says, and nothing is left`, async (t) => {
    const upstream = await start()
    // What runs a process has limits of its own.
    const limits =
      heading === 'stdio'
        ? { start_timeout_seconds: 2 }
        : { connect_timeout_seconds: 1, stream_linger_seconds: 0 }
    const replica: Replica = await startReplica({
      config: {
        core: { workers: 1, upstream_metadata_cache_ttl_seconds: 0 },
        servers: [
          {
            id: 'faulty',
            mount_path: '/mcp',
            upstream: { ...upstream.section, ...limits, initialize_timeout_seconds: 2 },
            // What a failure looks like, not what the breaker makes of many of them.
            upstream_ping: { enabled: false },
            tool_defaults: { tool_call_timeout_seconds: 1 },
          },
        ],
      },
    })
    t.teardown(async () => {
      await replica.stop()
      await upstream.stop()
    })
    const url = `${replica.url}/mcp`
    const expected = documented(heading)
    await (await WireSession.open(url)).delete()
    const before = openDescriptors(replica.pid)
    for (const operation of OPERATIONS) {
      for (const fault of faults) {
        const name = `${fault} ${operation}`
        if (expected.get(name) === ABSENT) continue
        const waits = expected.get(name) === 'waits'
        const cell = { url, upstream, operation, fault, waits }
        const outcome = await within(name, outcomeOf(cell), BOUND_MS)
        t.equal(outcome, expected.get(name), name)
        await upstream.heal()
        // The end of a session at its upstream is waited for by nobody, for up to 15 s.
        const isWaitedFor = operation !== 'DELETE' || fault === faults.at(-1)
        if (isWaitedFor) await eventually(`nothing is left of ${name}`, () => upstream.busy() === 0)
      }
    }
    await eventually(
      'as few descriptors are open as before',
      () => openDescriptors(replica.pid) <= before + 4,
      BOUND_MS,
    )
    t.notMatch(replica.logs(), /"level":"?(?:error|50)|failed unexpectedly/)
  })
}

t.test(
  'a lost upstream session is opened again and the call repeated as often as configured',
  async (t) => {
    const upstream = await startScriptedUpstream()
    t.teardown(() => upstream.stop())
    let losses = 0
    const executed: unknown[] = []
    upstream.scripts.set('tools/call any', (request, response) => {
      if (losses-- > 0) response.writeHead(404).end()
      else {
        executed.push(request.json)
        sendResult(request, { executed: true })
      }
    })
    for (const retries of [0, 1, 2]) {
      const replica = await startReplica({
        config: {
          core: { workers: 1 },
          sessions: { upstream_session_termination_retries: retries },
          servers: [{ id: 'a', mount_path: '/mcp', upstream: { url: upstream.url } }],
        },
      })
      for (const times of [0, 1, 2, 3]) {
        const session = await WireSession.open(`${replica.url}/mcp`)
        losses = times
        executed.length = 0
        const [calls, initialized] = ['tools/call', 'initialize'].map(
          (name) => upstream.requests(name).length,
        )
        const answer = await session.call('any')
        const isSaved = times <= retries
        const name = `${retries} retries, lost ${times} times`
        t.equal(answer.status, isSaved ? 200 : 404, name)
        t.equal(executed.length, isSaved ? 1 : 0, `${name}: executed`)
        const repeated = Math.min(times, retries)
        t.equal(
          upstream.requests('tools/call').length - (calls ?? 0),
          1 + repeated,
          `${name}: sent`,
        )
        t.equal(
          upstream.requests('initialize').length - (initialized ?? 0),
          repeated,
          `${name}: opened`,
        )
        losses = 0
        await session.delete()
      }
      await replica.stop()
    }
  },
)
