/** Metrics that the end-to-end test of one adapter does not see, and why. */
import type { MetricName } from '../../src/shared/telemetry/catalogue.ts'

/** They take several replicas, a crash or a collector that fails, which other tests have. */
export const SHOWN_ELSEWHERE: readonly MetricName[] = [
  'adapter_replica_hop_requests_total',
  'adapter_replica_hop_duration_seconds',
  'adapter_persistence_policy_transitions_total',
  'adapter_stream_takeover_duration_seconds',
  'adapter_thread_restarts_total',
  'adapter_telemetry_dropped_total',
  'adapter_telemetry_label_overflow_total',
  'adapter_tool_definition_drift_total',
]
