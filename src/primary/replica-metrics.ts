/** Counts what concerns the replica as a whole: what it is, which servers can be served, breakers, and the export of logs and spans. */
import type { Config } from '../shared/config/config.ts'
import type { Recorder } from '../shared/telemetry/recorder.ts'
import { NO_COUNTS } from '../shared/telemetry/records.ts'
import type { SignalCounts } from '../shared/telemetry/records.ts'
import { packageVersion } from './package-version.ts'
import type { Supervisor } from './supervisor.ts'
import type { TelemetryExport } from './telemetry-export.ts'

/** What is looked at. */
export interface ReplicaMetricsSources {
  readonly config: Pick<Config, 'servers' | 'telemetry'>
  readonly supervisor: Pick<Supervisor, 'isComplete' | 'vitals'>
  /** Undefined where neither logs nor spans are exported. */
  readonly telemetry: Pick<TelemetryExport, 'counts'> | undefined
  /** Which build of the listener this is. */
  readonly listener: string
}

const STATES = { closed: 0, half_open: 1, open: 2 } as const
const DROP_REASONS = ['queue_full', 'export_failed', 'shutdown'] as const
const SIGNALS = [
  ['logs', 'logs'],
  ['traces', 'spans'],
] as const

/** Has it looked at whenever counts are handed on. */
export function countReplica(recorder: Recorder, sources: ReplicaMetricsSources): void {
  const { config, supervisor, telemetry, listener } = sources
  const build = { version: packageVersion(), node: process.version, listener }
  recorder.set('adapter_build_info', build, 1)
  beginAtZero(recorder, config)
  const counted = { logs: NO_COUNTS, spans: NO_COUNTS }
  recorder.beforeReport(() => {
    let down = 0
    for (const [index, { id }] of config.servers.entries()) {
      const vitals = supervisor.vitals.server(index)
      const labels = { server_id: id }
      recorder.set('adapter_upstream_circuit_breaker_state', labels, STATES[vitals.state])
      if (!vitals.isClosed) down++
    }
    // Every worker serves every server.
    const notReady = supervisor.isComplete ? down : config.servers.length
    recorder.set('adapter_adapter_wiring_not_ready_servers', { server_id: 'global' }, notReady)
    if (telemetry === undefined) return
    for (const [signal, kind] of SIGNALS) {
      const counts = telemetry.counts[kind]
      countDropped(recorder, signal, counted[kind], counts)
      counted[kind] = counts
    }
  })
}

/**
 * Counters whose first step matters: Prometheus sees no increase where there was nothing before, so that an alert on the first lost thread or the first
 * dropped batch would miss it.
 */
function beginAtZero(
  recorder: Recorder,
  { servers, telemetry }: ReplicaMetricsSources['config'],
): void {
  for (const thread of ['worker', 'state', 'telemetry'] as const)
    recorder.add('adapter_thread_restarts_total', { thread }, 0)
  for (const status of ['ok', 'error'] as const)
    recorder.add('adapter_cleanup_cycles_total', { server_id: 'global', status }, 0)
  for (const { id, adapters } of servers)
    if (adapters.some(({ type }) => type === 'upload_consumer'))
      recorder.add('adapter_upload_batches_total', { server_id: id }, 0)
  if (!telemetry.enabled) return
  const signals = [
    'metrics',
    ...(telemetry.emitLogs ? (['logs'] as const) : []),
    ...(telemetry.traces.enabled ? (['traces'] as const) : []),
  ] as const
  for (const signal of signals)
    for (const reason of DROP_REASONS)
      recorder.add('adapter_telemetry_dropped_total', { signal, reason }, 0)
}

function countDropped(
  recorder: Recorder,
  signal: 'logs' | 'traces',
  before: SignalCounts,
  now: SignalCounts,
): void {
  const add = (reason: 'queue_full' | 'export_failed' | 'shutdown', count: number): void => {
    if (count > 0) recorder.add('adapter_telemetry_dropped_total', { signal, reason }, count)
  }
  add('queue_full', now.queueFull - before.queueFull)
  add('export_failed', now.exportFailed - before.exportFailed)
  add('shutdown', now.shutdown - before.shutdown)
}
