/** `telemetry`: export of metrics, logs and traces over OTLP. */

import { bool, choice, headerMap, positive, ratio, section, text } from './fields.ts'
import { z } from 'zod'

const tracesSchema = section({
  enabled: bool()
    .default(false)
    .describe(
      'Record a span for each MCP call, between that of its client and that of the upstream (W3C Trace Context), and export it. Needs `telemetry.enabled`.',
    ),
  endpoint: text()
    .nullable()
    .default(null)
    .describe(
      'Where spans go; null for `http://localhost:4318/v1/traces` with `http`, for `telemetry.endpoint` with `grpc`.',
    ),
  sample_ratio: ratio()
    .default(1)
    .describe(
      'Share of calls that are recorded, from 0 to 1, of those that come without a decision of their client.',
    ),
  parent_based: bool()
    .default(true)
    .describe(
      "Record a call when its client's trace context says so, and only then. Set to false where clients are not to decide: then `sample_ratio` alone does.",
    ),
  max_queue_size: positive()
    .default(2048)
    .describe('Spans held for export; further ones are dropped and counted.'),
  max_export_batch_size: positive().default(512).describe('Spans sent at a time.'),
  schedule_delay_millis: positive()
    .default(1000)
    .describe('Milliseconds between two exports of spans.'),
  export_timeout_millis: positive()
    .default(10_000)
    .describe('Milliseconds an export of spans may take.'),
})

/** `telemetry`. */
export const telemetrySchema = section({
  enabled: bool().default(false).describe('Export metrics over OTLP.'),
  transport: choice(['grpc', 'http']).default('grpc').describe('OTLP over gRPC or over HTTP.'),
  endpoint: text()
    .nullable()
    .default(null)
    .describe(
      'Where metrics go; null for `http://localhost:4317` (grpc) or `http://localhost:4318/v1/metrics` (http).',
    ),
  logs_endpoint: text()
    .nullable()
    .default(null)
    .describe(
      'Where logs go; null for `http://localhost:4318/v1/logs` with `http`, for `telemetry.endpoint` with `grpc`.',
    ),
  insecure: bool().default(true).describe('Use gRPC without TLS.'),
  headers: headerMap()
    .default({})
    .describe('Headers sent with every export. The values are secret.'),
  export_interval_seconds: positive().default(15).describe('Seconds between two exports.'),
  export_timeout_seconds: positive().default(10).describe('Seconds an export may take.'),
  max_queue_size: positive().default(5000).describe('Events held before they are recorded.'),
  queue_batch_size: positive().default(256).describe('Events recorded at a time.'),
  periodic_flush_seconds: positive().default(5).describe('Seconds between two flushes.'),
  shutdown_drain_timeout_seconds: positive()
    .default(10)
    .describe('Seconds that the last export may take at shutdown.'),
  log_batch_max_queue_size: positive()
    .nullable()
    .default(null)
    .describe('Log records held for export, further ones are dropped and counted; null for 2048.'),
  log_batch_max_export_batch_size: positive()
    .nullable()
    .default(null)
    .describe('Log records sent at a time; null for 512.'),
  log_batch_schedule_delay_millis: positive()
    .nullable()
    .default(null)
    .describe('Milliseconds between two exports of logs; null for 1000.'),
  log_batch_export_timeout_millis: positive()
    .nullable()
    .default(null)
    .describe('Milliseconds an export of logs may take; null for `export_timeout_seconds`.'),
  drop_on_queue_full: bool().default(true).describe('Drop events when the queue is full.'),
  flush_on_shutdown: bool().default(true).describe('Export once more when everything has stopped.'),
  flush_on_terminate: bool()
    .default(true)
    .describe('Export at once on a stop signal, before requests in hand are finished.'),
  emit_logs: bool()
    .default(false)
    .describe(
      'Export log lines too, at `core.log_level`, as they are written: redacted. Needs `telemetry.enabled`.',
    ),
  traces: tracesSchema.prefault({}).describe('Traces over OTLP.'),
  service_name: text().default('remote-mcp-adapter').describe('`service.name` of the resource.'),
  service_namespace: z
    .string()
    .nullable()
    .transform((name) => (name === null || name.trim() === '' ? null : name.trim()))
    .default(null)
    .describe('`service.namespace` of the resource; blank counts as null.'),
})
