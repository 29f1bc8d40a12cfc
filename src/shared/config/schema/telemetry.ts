/** `telemetry`: export of metrics, logs and traces over OTLP, and metrics for Prometheus. */

import {
  blankIsNull,
  bool,
  choice,
  headerMap,
  httpPath,
  integer,
  positive,
  ratio,
  section,
  text,
} from './fields.ts'
import { z } from 'zod'

const prometheusSchema = section({
  enabled: bool()
    .default(false)
    .describe(
      'Show metrics to Prometheus (text format 0.0.4); works with and without export over OTLP.',
    ),
  path: httpPath().default('/metrics').describe('Where a scraper finds them.'),
  port: integer({ min: 0, max: 65_535 })
    .nullable()
    .default(null)
    .describe(
      'A port of their own, where no token is asked for; 0 takes a free one. Null for the port of the adapter, where a token is needed while `core.auth.enabled` is true.',
    ),
  host: blankIsNull()
    .default(null)
    .describe('The address to listen on with a port of their own; null for `127.0.0.1`.'),
})

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
  insecure: bool()
    .default(true)
    .describe('Use gRPC without TLS, unless the endpoint begins with `https://`.'),
  headers: headerMap()
    .default({})
    .describe('Headers sent with every export. The values are secret.'),
  export_interval_seconds: positive().default(15).describe('Seconds between two exports.'),
  export_timeout_seconds: positive()
    .default(10)
    .describe('Seconds that one request to the collector may take.'),
  max_queue_size: positive().default(5000).describe('Data points that may wait for the collector.'),
  queue_batch_size: positive()
    .default(256)
    .describe('Data points in one request to the collector.'),
  periodic_flush_seconds: positive()
    .default(5)
    .describe('Seconds between two times that a thread hands on what it counted.'),
  shutdown_drain_timeout_seconds: positive()
    .default(10)
    .describe('Seconds that the last export may hold up the end of the process.'),
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
  drop_on_queue_full: bool()
    .default(true)
    .describe(
      'When `max_queue_size` is reached: true drops the oldest data points that wait, false takes no new ones until there is room. Requests never wait either way.',
    ),
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
  prometheus: prometheusSchema.prefault({}).describe('Metrics for Prometheus.'),
})
