/** P1 and P2: a small `tools/call` that no adapter looks into, from 64 connections: direct, through nginx, through the adapter. */
import { medianRatio } from '../support/statistics.ts'
import { series } from '../support/rounds.ts'
import { startRedis } from '../support/redis.ts'
import type { Redis } from '../support/redis.ts'
import type { Contender } from '../support/measure.ts'
import type { Replica } from '../support/replica.ts'
import { compare, comparisonTable, echoContender, failureNotes } from './comparison.ts'
import type { Samples } from './comparison.ts'
import type { Bench, Findings, Measured, Scenario } from './scenario.ts'

const REDIS = 'adapter, redis state'
const DISK = 'adapter, disk state'

/** See the file comment. */
export const passThrough: Scenario = {
  name: 'pass-through',
  rows: ['P1', 'P2'],
  async run(bench) {
    const replica = await bench.replica()
    const redis = await startWithRedis(bench)
    try {
      const samples = await compare(bench, await contendersOf(bench, replica, redis.replica))
      return findings(samples, redis.missing)
    } finally {
      await replica.stop()
      await redis.replica?.stop()
      await redis.server?.stop()
    }
  },
}

async function contendersOf(
  bench: Bench,
  disk: Replica,
  redis: Replica | undefined,
): Promise<Record<string, Contender>> {
  const direct = { url: bench.upstream.url, headers: {} }
  const contenders: Record<string, Contender> = {
    direct: await echoContender(bench, bench.upstream.pid, direct),
  }
  if (bench.nginx !== undefined) {
    const { pid, url } = bench.nginx
    contenders['nginx'] = await echoContender(bench, pid, { url, headers: {} })
  }
  contenders[DISK] = await echoContender(bench, disk.pid, disk.target)
  if (redis !== undefined) contenders[REDIS] = await echoContender(bench, redis.pid, redis.target)
  return contenders
}

function findings(samples: Samples, redisMissing: string | undefined): Findings {
  const cpu = (name: string): number[] => series(samples, name, (sample) => sample.cpuUs)
  const failures = failureNotes(samples)
  const p1: Measured = samples.has('nginx')
    ? { row: 'P1', values: { ratio: medianRatio(cpu(DISK), cpu('nginx')) }, notes: failures }
    : { row: 'P1', values: {}, notes: ['nginx is not installed', ...failures] }
  const p2: Measured = samples.has(REDIS)
    ? { row: 'P2', values: { ratio: medianRatio(cpu(REDIS), cpu(DISK)) }, notes: [] }
    : { row: 'P2', values: {}, notes: [redisMissing ?? 'not measured'] }
  return { measured: [p1, p2], details: [comparisonTable('Pass-through (P1, P2)', samples)] }
}

async function startWithRedis(
  bench: Bench,
): Promise<{ server?: Redis; replica?: Replica; missing?: string }> {
  const server = await startRedis(bench.directory)
  if (server === undefined) return { missing: 'redis-server is not installed' }
  try {
    const state = { type: 'redis', redis: { host: '127.0.0.1', port: server.port } }
    return { server, replica: await bench.replica({ state }) }
  } catch {
    await server.stop()
    return { missing: 'not built yet: the adapter does not start with redis state' }
  }
}
