/** How cost grows with sessions, artifacts and tools: linearly or better is what is wanted. */
import { residentBytes } from '../support/cpu.ts'
import { measure } from '../support/measure.ts'
import type { Contender, Sample } from '../support/measure.ts'
import { callBody, inParallel, McpClient, requestBody } from '../support/mcp-client.ts'
import type { Target } from '../support/mcp-client.ts'
import type { Replica } from '../support/replica.ts'
import { median } from '../support/statistics.ts'
import { saturating } from './comparison.ts'
import type { Bench, Detail, Scenario } from './scenario.ts'

/** Calls that show the cost at a level; they add to it, so that the lowest levels are really this many more. */
const ARTIFACT_CALLS = 300

/** See the file comment. */
export const growth: Scenario = {
  name: 'growth',
  rows: ['growth'],
  async run(bench) {
    const levels = [1, 10, 100, 1_000, 10_000].filter((level) => level <= bench.scale.growth)
    return {
      measured: [],
      details: [
        await withReplica(bench, {}, (replica) => sessionCurve(bench, replica, levels)),
        await withReplica(bench, {}, (replica) => artifactCurve(bench, replica, levels)),
        await withReplica(bench, toolServers(bench, levels), (replica) =>
          toolCurve(bench, replica, levels),
        ),
      ],
    }
  },
}

async function withReplica(
  bench: Bench,
  servers: Readonly<Record<string, string>>,
  use: (replica: Replica) => Promise<Detail>,
): Promise<Detail> {
  const replica = await bench.replica({ servers })
  try {
    return await use(replica)
  } finally {
    await replica.stop()
  }
}

async function sessionCurve(
  bench: Bench,
  replica: Replica,
  levels: readonly number[],
): Promise<Detail> {
  const client = new McpClient(replica.target)
  const rows: string[][] = []
  const sessionIds: string[] = []
  try {
    await load(bench, replica, replica.target, await client.openMany(16))
    for (const level of levels) {
      const startedAt = performance.now()
      const opened = level - sessionIds.length
      // oxlint-disable-next-line no-await-in-loop -- levels build on each other
      sessionIds.push(...(await client.openMany(opened)))
      const openMs = (performance.now() - startedAt) / opened
      // oxlint-disable-next-line no-await-in-loop
      const sample = await load(bench, replica, replica.target, sessionIds)
      const resident = residentBytes(replica.pid) / 1_048_576
      rows.push([count(level), sample.cpuUs.toFixed(0), openMs.toFixed(2), resident.toFixed(0)])
    }
  } finally {
    await client.close()
  }
  return {
    title: 'Growth with open sessions: pass-through calls, each in the next session',
    columns: [
      'sessions',
      'CPU µs/call',
      'ms to open one (32 at a time)',
      'resident MiB after the calls',
    ],
    rows,
  }
}

async function artifactCurve(
  bench: Bench,
  replica: Replica,
  levels: readonly number[],
): Promise<Detail> {
  const client = new McpClient(replica.target)
  const rows: string[][] = []
  try {
    const sessionId = await client.open()
    const produce = (times: number): Promise<unknown> =>
      inParallel(times, 16, () => client.call(sessionId, 'produce', { output: 'a.txt' }))
    await produce(ARTIFACT_CALLS)
    // The warm-up counts as well.
    let made = ARTIFACT_CALLS
    for (const level of levels.filter((each) => each >= 100)) {
      const missing = Math.max(0, level - made)
      // oxlint-disable-next-line no-await-in-loop -- levels build on each other
      await produce(missing)
      const body = callBody('produce', { output: 'a.txt' })
      // oxlint-disable-next-line no-await-in-loop
      const sample = await load(bench, replica, replica.target, [sessionId], body, 16)
      // oxlint-disable-next-line no-await-in-loop
      const listMs = await timeOf(5, () => client.request(sessionId, 'resources/list', {}))
      const before = made + missing
      made = before + sample.requests
      rows.push([
        `${count(before)}–${count(made)}`,
        sample.cpuUs.toFixed(0),
        sample.p50Ms.toFixed(1),
        listMs.toFixed(2),
      ])
    }
  } finally {
    await client.close()
  }
  return {
    title: 'Growth with artifacts in one session: calls that make one more',
    columns: ['artifacts', 'CPU µs/call', 'p50 ms', 'ms for resources/list (first page)'],
    rows,
  }
}

async function toolCurve(
  bench: Bench,
  replica: Replica,
  levels: readonly number[],
): Promise<Detail> {
  const rows: string[][] = []
  for (const level of levels) {
    const target = replica.targetOf(toolServer(level))
    const client = new McpClient(target)
    try {
      // oxlint-disable-next-line no-await-in-loop -- one level at a time
      const sessionIds = await client.openMany(4)
      const firstMs = await timeOf(1, () => client.request(sessionIds[0] ?? '', 'tools/list', {}))
      const body = requestBody('tools/list', {})
      // oxlint-disable-next-line no-await-in-loop
      const sample = await load(bench, replica, target, sessionIds, body, 4)
      rows.push([
        count(level),
        sample.cpuUs.toFixed(0),
        (sample.cpuUs / level).toFixed(2),
        firstMs.toFixed(1),
        (sample.bytes / sample.requests / 1_000).toFixed(1),
      ])
    } finally {
      // oxlint-disable-next-line no-await-in-loop
      await client.close()
    }
  }
  return {
    title: 'Growth with tools: tools/list',
    columns: ['tools', 'CPU µs/request', 'CPU µs/tool', 'ms for the first', 'KB an answer'],
    rows,
  }
}

/** A round of load at which each request takes the next session. */
function load(
  bench: Bench,
  replica: Replica,
  target: Target,
  sessionIds: readonly string[],
  body?: string,
  connections?: number,
): Promise<Sample> {
  const { traffic } = saturating(bench, target, sessionIds, {
    ...(body === undefined ? {} : { bodies: [body] }),
    ...(connections === undefined ? {} : { connections }),
  })
  const contender: Contender = {
    pid: replica.pid,
    upstreamPid: bench.upstream.pid,
    order: { kind: 'pace', traffic, perSecond: null },
  }
  return measure(bench.load, contender)
}

async function timeOf(times: number, work: () => Promise<unknown>): Promise<number> {
  const taken: number[] = []
  for (let turn = 0; turn < times; turn++) {
    const startedAt = performance.now()
    // oxlint-disable-next-line no-await-in-loop -- one at a time
    await work()
    taken.push(performance.now() - startedAt)
  }
  return median(taken)
}

function toolServers(bench: Bench, levels: readonly number[]): Record<string, string> {
  return Object.fromEntries(
    levels.map((level) => [toolServer(level), `${bench.upstream.url}?tools=${level}`]),
  )
}

function toolServer(level: number): string {
  return `tools-${level}`
}

function count(value: number): string {
  return value.toLocaleString('en').replaceAll(',', ' ')
}
