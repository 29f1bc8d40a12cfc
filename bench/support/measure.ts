/** One round of load with the CPU that it cost. */
import { cpuMs } from './cpu.ts'
import type { LoadGenerator } from './load.ts'
import { median } from './statistics.ts'
import type { Order, Outcome } from './traffic.ts'

/** A contender in a comparison: a process tree that is measured, and the load that it gets. */
export interface Contender {
  readonly pid: number
  readonly upstreamPid: number
  readonly order: Extract<Order, { kind: 'saturate' | 'pace' }>
}

/** What one round of one contender showed. */
export interface Sample extends Outcome {
  /** Microseconds of the contender's process tree per request. */
  readonly cpuUs: number
  /** The same of the upstream. */
  readonly upstreamCpuUs: number
  readonly perSecond: number
}

/** Runs the load once. */
export async function measure(load: LoadGenerator, contender: Contender): Promise<Sample> {
  const before = cpuMs(contender.pid)
  const upstreamBefore = cpuMs(contender.upstreamPid)
  const outcome = await load.run(contender.order)
  const perRequest = (ms: number): number => (ms * 1_000) / Math.max(1, outcome.requests)
  return {
    ...outcome,
    cpuUs: perRequest(cpuMs(contender.pid) - before),
    upstreamCpuUs: perRequest(cpuMs(contender.upstreamPid) - upstreamBefore),
    perSecond: outcome.requests / outcome.seconds,
  }
}

/** A line of a detail table: name, CPU with its range, the upstream's CPU, requests per second, latency, failures. */
export function sampleRow(name: string, samples: readonly Sample[]): string[] {
  const cpu = samples.map((sample) => sample.cpuUs)
  const failures = samples.reduce((sum, sample) => sum + sample.failures, 0)
  return [
    name,
    `${median(cpu).toFixed(0)} (${Math.min(...cpu).toFixed(0)}–${Math.max(...cpu).toFixed(0)})`,
    median(samples.map((sample) => sample.upstreamCpuUs)).toFixed(0),
    median(samples.map((sample) => sample.perSecond)).toFixed(0),
    median(samples.map((sample) => sample.p50Ms)).toFixed(2),
    median(samples.map((sample) => sample.p99Ms)).toFixed(2),
    String(failures),
  ]
}

/** The heads of `sampleRow`. */
export const SAMPLE_COLUMNS = [
  '',
  'CPU µs/request (range)',
  'upstream CPU µs',
  'requests/s',
  'p50 ms',
  'p99 ms',
  'failures',
] as const
