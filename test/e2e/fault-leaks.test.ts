// Many sessions whose upstream fails in every way, over each transport: afterwards there are no more connections, processes, sessions and memory than before.
import { readdirSync } from 'node:fs'

import t from 'tap'

import { eventually } from '../support/eventually.ts'
import { FailingSessions } from '../support/failing-sessions.ts'
import { HeapProbe } from '../support/heap-probe.ts'
import { openDescriptors, residentMib } from '../support/process-stats.ts'
import { commandOf, descendantsOf } from '../support/process-table.ts'
import { startReplica } from '../support/replica.ts'
import type { Replica } from '../support/replica.ts'
import {
  failingStdio,
  startFailingHttp,
  startFailingSse,
} from '../support/upstreams/failing-calls.ts'
import type { FailingCalls } from '../support/upstreams/failing-calls.ts'

t.setTimeout(3_600_000)

/** Sessions over HTTP and over stdio, where each is a process: FAULT_SESSIONS=10000 FAULT_PROCESSES=1000 looks longer. */
const SESSIONS = Number(process.env['FAULT_SESSIONS'] ?? 480)
const PROCESSES = Number(process.env['FAULT_PROCESSES'] ?? 96)
/** What memory may differ by from run to run, however many sessions there were. In MiB. */
const NOISE_MIB = 40
const HEAP_NOISE_MIB = 4

const TRANSPORTS: Readonly<
  Record<string, { readonly start: () => Promise<FailingCalls>; readonly count: number }>
> = {
  'Streamable HTTP': { start: startFailingHttp, count: SESSIONS },
  'HTTP+SSE': { start: startFailingSse, count: SESSIONS },
  stdio: { start: failingStdio, count: PROCESSES },
}

async function sessionsIn(replica: Replica): Promise<number | undefined> {
  const health = await fetch(`${replica.url}/healthz`)
  // Absent parts show as undefined.
  const report = (await health.json()) as {
    persistence?: { state_inventory?: { sessions_count?: number } }
  }
  return report.persistence?.state_inventory?.sessions_count
}

/** Processes that the adapter runs, but for the one that watches over them. */
function serversOf({ pid }: Replica): number {
  return descendantsOf(pid).filter((child) => !commandOf(child).includes('process-guard')).length
}

function threadsOf({ pid }: Replica): number {
  return readdirSync(`/proc/${pid}/task`).length
}

for (const [name, { start, count }] of Object.entries(TRANSPORTS)) {
  t.test(`${name}: ${count} sessions whose upstream fails leave nothing behind`, async (t) => {
    const upstream = await start()
    const probe = new HeapProbe()
    const replica = await startReplica({
      config: {
        core: {
          workers: 1,
          cleanup_interval_seconds: 1,
          log_level: 'error',
          max_start_wait_seconds: 0,
        },
        sessions: { idle_ttl_seconds: 2, allow_revival: false },
        servers: [
          {
            id: 'failing',
            mount_path: '/mcp',
            upstream: upstream.section,
            // It would keep all but the first failures away from the upstream.
            upstream_ping: { enabled: false },
          },
        ],
      },
      env: probe.environment,
    })
    const clients = new FailingSessions(`${replica.url}/mcp`)
    t.teardown(async () => {
      clients.close()
      await replica.stop()
      upstream.stop()
      probe.stop()
    })
    const idle = openDescriptors(replica.pid)
    const state = async (): Promise<Record<string, number | undefined>> => ({
      descriptors: openDescriptors(replica.pid),
      threads: threadsOf(replica),
      processes: descendantsOf(replica.pid).length,
      sessions: await sessionsIn(replica),
      upstreamSessions: upstream.sessions(),
      residentMib: Math.round(residentMib(replica.pid)),
      heapMib: Math.round((await probe.usedMib(replica.pid)) * 10) / 10,
    })
    const settled = async (): Promise<Record<string, number | undefined>> => {
      clients.close()
      const isDone = (): boolean => (upstream.sessions() ?? 0) === 0
      await eventually('the upstream has no session left', isDone, 60_000)
      await eventually('nor has the store', async () => (await sessionsIn(replica)) === 0, 60_000)
      await eventually('no server runs', () => serversOf(replica) === 0, 60_000)
      const isFew = (): boolean => openDescriptors(replica.pid) <= idle + 6
      await eventually(`no more than ${idle + 6} descriptors`, isFew, 60_000)
      return state()
    }
    // What is made once, or kept for the next, is there after this.
    await clients.run(Math.ceil(count / 2))
    const before = await settled()
    await clients.run(count)
    const after = await settled()
    t.comment(JSON.stringify({ before, after }))
    t.same(clients.failedOpenings, [], 'a failure in one session is nobody else’s')
    t.same(clients.failedCalls, [], 'nor one of a call')
    const more = (what: string): number => Number(after[what]) - Number(before[what])
    t.ok(more('threads') <= 0 && more('processes') <= 0, 'no thread or process more')
    t.ok(more('heapMib') < HEAP_NOISE_MIB, `heaps grew by ${more('heapMib')} MiB`)
    t.ok(more('residentMib') < NOISE_MIB, `memory grew by ${more('residentMib')} MiB`)
    t.notMatch(replica.logs(), /"level":"?(?:[56]0|error|fatal)|failed unexpectedly/)
  })
}
