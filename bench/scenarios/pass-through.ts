/** P1 and P2: a small `tools/call` that no adapter looks into, from 64 connections: direct, through nginx, through the adapter with each state. */
import { medianRatio } from '../support/statistics.ts'
import { series } from '../support/rounds.ts'
import { startRedis } from '../support/redis.ts'
import type { Redis } from '../support/redis.ts'
import { measure } from '../support/measure.ts'
import type { Contender } from '../support/measure.ts'
import type { Replica } from '../support/replica.ts'
import { compare, comparisonTable, echoContender, failureNotes } from './comparison.ts'
import type { Samples } from './comparison.ts'
import type { Bench, Detail, Findings, Measured, Scenario } from './scenario.ts'

const DISK = 'adapter, disk state'
const MEMORY = 'adapter, memory state'
const REDIS = 'adapter, redis state'
const REDIS_UNLIMITED = 'adapter, redis state, no limit of requests at a time'

/** The replicas under comparison, and the server that some of them use. */
interface Stage {
  readonly replicas: ReadonlyMap<string, Replica>
  readonly redis: Redis | undefined
}

/** See the file comment. */
export const passThrough: Scenario = {
  name: 'pass-through',
  rows: ['P1', 'P2'],
  async run(bench) {
    const stage = await startStage(bench)
    try {
      const contenders = await contendersOf(bench, stage)
      const samples = await compare(bench, contenders)
      const roundTrips = await roundTripTable(bench, stage, contenders)
      return findings(samples, roundTrips)
    } finally {
      for (const replica of stage.replicas.values()) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other keeps the machine quiet for none of them
        await replica.stop()
      }
      await stage.redis?.stop()
    }
  },
}

async function startStage(bench: Bench): Promise<Stage> {
  const replicas = new Map<string, Replica>()
  replicas.set(DISK, await bench.replica())
  replicas.set(MEMORY, await bench.replica({ state: { type: 'memory' } }))
  const redis = await startRedis(bench.directory)
  if (redis !== undefined) {
    const state = { type: 'redis', redis: { host: '127.0.0.1', port: redis.port } }
    replicas.set(REDIS, await bench.replica({ state: withKeyBase(state, 'limited') }))
    replicas.set(
      REDIS_UNLIMITED,
      await bench.replica({ state: withKeyBase(state, 'unlimited'), inFlightLimit: null }),
    )
  }
  return { replicas, redis }
}

/** Replicas that share no root must share no state either. */
function withKeyBase(state: { readonly redis: object }, keyBase: string): object {
  return { ...state, redis: { ...state.redis, key_base: keyBase } }
}

async function contendersOf(bench: Bench, stage: Stage): Promise<Record<string, Contender>> {
  const direct = { url: bench.upstream.url, headers: {} }
  const contenders: Record<string, Contender> = {
    direct: await echoContender(bench, bench.upstream.pid, direct),
  }
  if (bench.nginx !== undefined) {
    const { pid, url } = bench.nginx
    contenders['nginx'] = await echoContender(bench, pid, { url, headers: {} })
  }
  for (const [name, replica] of stage.replicas) {
    // oxlint-disable-next-line no-await-in-loop -- each opens its sessions
    contenders[name] = await echoContender(bench, replica.pid, replica.target)
  }
  return contenders
}

/** What one call costs Redis, measured over one more round of each contender that uses it. */
async function roundTripTable(
  bench: Bench,
  { redis }: Stage,
  contenders: Readonly<Record<string, Contender>>,
): Promise<Detail | undefined> {
  if (redis === undefined) return undefined
  const rows: string[][] = []
  for (const name of [REDIS, REDIS_UNLIMITED]) {
    const contender = contenders[name]
    if (contender === undefined) continue
    // oxlint-disable-next-line no-await-in-loop -- one at a time is the point
    const before = await redis.work()
    // oxlint-disable-next-line no-await-in-loop
    const { requests } = await measure(bench.load, contender)
    // oxlint-disable-next-line no-await-in-loop
    const after = await redis.work()
    rows.push([
      name,
      ((after.reads - before.reads) / requests).toFixed(3),
      ((after.scripts - before.scripts) / requests).toFixed(3),
    ])
  }
  return {
    title: 'Redis for one proxied call (both replicas keep their connections alive meanwhile)',
    columns: ['', 'round trips a call', 'scripts a call'],
    rows,
  }
}

function findings(samples: Samples, roundTrips: Detail | undefined): Findings {
  const cpu = (name: string): number[] => series(samples, name, (sample) => sample.cpuUs)
  const failures = failureNotes(samples)
  const p1: Measured = samples.has('nginx')
    ? { row: 'P1', values: { ratio: medianRatio(cpu(DISK), cpu('nginx')) }, notes: failures }
    : { row: 'P1', values: {}, notes: ['nginx is not installed', ...failures] }
  const p2: Measured = samples.has(REDIS)
    ? {
        row: 'P2',
        values: { ratio: medianRatio(cpu(REDIS), cpu(DISK)) },
        notes: [
          `${throughput(samples, REDIS, DISK)} of the requests per second of disk state, ${throughput(samples, REDIS, MEMORY)} of memory state`,
          `without a limit of requests at a time ${medianRatio(cpu(REDIS_UNLIMITED), cpu(DISK)).toFixed(2)}×`,
        ],
      }
    : { row: 'P2', values: {}, notes: ['redis-server is not installed'] }
  const details = [comparisonTable('Pass-through (P1, P2)', samples)]
  return {
    measured: [p1, p2],
    details: roundTrips === undefined ? details : [...details, roundTrips],
  }
}

function throughput(samples: Samples, name: string, base: string): string {
  const perSecond = (of: string): number[] => series(samples, of, (sample) => sample.perSecond)
  return `${(100 * medianRatio(perSecond(name), perSecond(base))).toFixed(0)} %`
}
