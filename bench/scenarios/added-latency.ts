/** P3: how much later an answer comes through the adapter, at 30 % of the rate at which the adapter saturates. */
import { series } from '../support/rounds.ts'
import { median } from '../support/statistics.ts'
import { measure } from '../support/measure.ts'
import type { Contender } from '../support/measure.ts'
import { compare, comparisonTable, echoContender, failureNotes } from './comparison.ts'
import type { Bench, Findings, Scenario } from './scenario.ts'

const LOAD_SHARE = 0.3

/** See the file comment. */
export const addedLatency: Scenario = {
  name: 'added-latency',
  rows: ['P3'],
  async run(bench) {
    const replica = await bench.replica()
    try {
      const adapter = await echoContender(bench, replica.pid, replica.target)
      const direct = await echoContender(bench, bench.upstream.pid, {
        url: bench.upstream.url,
        headers: {},
      })
      await measure(bench.load, adapter)
      const { perSecond } = await measure(bench.load, adapter)
      const rate = Math.round(perSecond * LOAD_SHARE)
      return await measureAt(bench, rate, { direct, adapter })
    } finally {
      await replica.stop()
    }
  },
}

async function measureAt(
  bench: Bench,
  rate: number,
  contenders: Readonly<Record<'direct' | 'adapter', Contender>>,
): Promise<Findings> {
  const paced = (contender: Contender): Contender => ({
    ...contender,
    order: { kind: 'pace', traffic: contender.order.traffic, perSecond: rate },
  })
  const samples = await compare(bench, {
    direct: paced(contenders.direct),
    adapter: paced(contenders.adapter),
  })
  const added = (pick: 'p50Ms' | 'p99Ms'): number => {
    const direct = series(samples, 'direct', (sample) => sample[pick])
    const through = series(samples, 'adapter', (sample) => sample[pick])
    return median(through.map((value, index) => value - (direct[index] ?? NaN)))
  }
  return {
    measured: [
      {
        row: 'P3',
        values: { p50: added('p50Ms'), p99: added('p99Ms') },
        notes: [`${rate} requests/s, steady`, ...failureNotes(samples)],
      },
    ],
    details: [comparisonTable(`Latency at ${rate} requests/s (P3)`, samples)],
  }
}
