/** Counts what concerns a worker as a whole: requests that it refuses, leases that it holds, and runs of maintenance. */
import type { Config } from '../../shared/config/config.ts'
import type { AdapterError } from '../../shared/errors.ts'
import type { Recorder } from '../../shared/telemetry/recorder.ts'
import { reasonOf, routeLabels, statusClass } from '../../shared/telemetry/route-labels.ts'
import type { RequestHead } from '../exchange/exchange.ts'
import type { MaintenanceReport } from '../maintenance/sweeper.ts'
import { countRemoved } from './store-metrics.ts'

/** What to call for each request that is answered with an error of ours. */
export function countRefusals(
  recorder: Recorder,
  config: Pick<Config, 'core' | 'servers'>,
): (request: RequestHead, error: AdapterError) => void {
  return ({ route, serverIndex }, { code, status }) =>
    recorder.add('adapter_request_rejections_total', {
      ...routeLabels(config, route, serverIndex),
      reason: reasonOf(code),
      'http.response.status_code': String(status),
      'http.response.status_class': statusClass(status),
    })
}

/** A run of maintenance; undefined: one that failed. What it had the store remove is counted there. */
export function countRun(recorder: Recorder, report: MaintenanceReport | undefined): void {
  const status = report === undefined ? 'error' : 'ok'
  recorder.add('adapter_cleanup_cycles_total', { server_id: 'global', status })
  if (report === undefined) return
  countRemoved(recorder, 'orphan_items', report.removedOrphanItems)
  countRemoved(recorder, 'orphan_sessions', report.removedOrphanSessions)
  countRemoved(recorder, 'temporary_files', report.removedTemporaryFiles)
  countRemoved(recorder, 'failures', report.failures)
}

/** Has it looked at which leases the worker holds whenever counts are handed on. */
export function countLeases(
  recorder: Recorder,
  streams: { readonly size: number },
  upkeep: { readonly isMaintainer: boolean },
): void {
  recorder.beforeReport(() => {
    recorder.set('adapter_leases_held', { kind: 'stream' }, streams.size)
    recorder.set('adapter_leases_held', { kind: 'maintainer' }, upkeep.isMaintainer ? 1 : 0)
  })
}
