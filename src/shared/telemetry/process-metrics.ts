/** Metrics of the process, its threads, and of telemetry itself. */
import { counter, gauge, THREAD } from './metric.ts'

const SIGNAL = ['metrics', 'logs', 'traces'] as const

export const PROCESS_METRICS = {
  adapter_build_info: gauge('1', 'max', 'Always 1; the labels say what runs.', {
    version: { from: 'the version of this package' },
    node: { from: 'the version of Node.js' },
    listener: { from: 'the build of uWebSockets.js' },
  }),
  adapter_process_start_time_seconds: gauge(
    's',
    'max',
    'When the process started, in Unix time.',
    {},
  ),
  adapter_process_cpu_seconds_total: counter('s', 'Processor time of the process.', {
    mode: ['user', 'system'],
  }),
  adapter_process_resident_memory_bytes: gauge('By', 'max', 'Resident memory of the process.', {}),
  adapter_memory_bytes: gauge('By', 'sum', 'Memory of a thread.', {
    thread: THREAD,
    kind: ['heap_used', 'heap_total', 'external', 'array_buffers'],
  }),
  adapter_event_loop_delay_seconds: gauge(
    's',
    'max',
    'How late the event loop of a thread came to its timers since the last report.',
    {
      thread: THREAD,
      stat: ['mean', 'p99', 'max'],
    },
  ),
  adapter_event_loop_utilization_ratio: gauge(
    '1',
    'max',
    'Share of time in which the event loop of a thread was busy.',
    {
      thread: THREAD,
    },
  ),
  adapter_workers_ready: gauge('{worker}', 'max', 'Workers that take requests.', {}),
  adapter_thread_restarts_total: counter(
    '1',
    'Threads that ended unexpectedly and were started again.',
    {
      thread: ['worker', 'state', 'telemetry'],
    },
  ),
  adapter_telemetry_exports_total: counter('1', 'Requests to the collector.', {
    signal: ['metrics'],
    result: ['success', 'failure'],
  }),
  adapter_telemetry_dropped_total: counter(
    '{point}',
    'Data points, log records or spans that never reached the collector.',
    {
      signal: SIGNAL,
      reason: ['queue_full', 'export_failed', 'shutdown'],
    },
  ),
  adapter_telemetry_queue_size: gauge(
    '{point}',
    'sum',
    'Data points that wait for the collector.',
    { signal: ['metrics'] },
  ),
  adapter_telemetry_label_overflow_total: counter(
    '1',
    'Records counted under the label value `overflow`, because a metric had too many label sets.',
    {
      metric: { from: 'metrics of this catalogue' },
    },
  ),
} as const
