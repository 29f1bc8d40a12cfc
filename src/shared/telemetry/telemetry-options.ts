/** From the configuration to what telemetry is started with, in every thread. */
import type { Config } from '../config/config.ts'

/** Longest delay of a timer of Node.js, in milliseconds; a longer one would fire at once. */
const MAX_TIMER_MS = 2_147_483_647

/** How metrics get to a collector. Plain data. Holds secrets. */
export interface CollectorOptions {
  readonly transport: 'grpc' | 'http'
  readonly endpoint: string
  readonly insecure: boolean
  readonly headers: Readonly<Record<string, string>>
  readonly intervalMs: number
  readonly timeoutMs: number
  /** Data points that may wait. */
  readonly maxQueued: number
  /** Data points in one request. */
  readonly batchSize: number
  readonly dropsWhenFull: boolean
}

/** A port of its own for Prometheus. */
export interface ScrapePort {
  readonly host: string
  readonly port: number
  readonly path: string
}

/** Attributes of the resource, by their names. */
export type ResourceAttributes = Readonly<Record<string, string>>

/** What the telemetry thread is started with. */
export interface TelemetryThreadOptions {
  readonly resource: ResourceAttributes
  /** Version of the adapter. */
  readonly version: string
  readonly collector: CollectorOptions | null
  readonly scrapePort: ScrapePort | null
}

/** How often threads hand on what they counted, in milliseconds; null where nothing is counted. */
export function reportIntervalMs({ telemetry }: Pick<Config, 'telemetry'>): number | null {
  const isOn = telemetry.enabled || telemetry.prometheus.enabled
  return isOn ? Math.min(telemetry.periodicFlushSeconds * 1_000, MAX_TIMER_MS) : null
}

/** See `TelemetryThreadOptions`. */
export function telemetryThreadOptions(
  { telemetry }: Pick<Config, 'telemetry'>,
  { replicaId, version }: { readonly replicaId: string; readonly version: string },
): TelemetryThreadOptions {
  const { prometheus, serviceName, serviceNamespace } = telemetry
  const { enabled, port, host, path } = prometheus
  return {
    resource: {
      'service.name': serviceName,
      ...(serviceNamespace === null ? {} : { 'service.namespace': serviceNamespace }),
      'service.instance.id': replicaId,
      'service.version': version,
    },
    version,
    collector: telemetry.enabled ? collectorOptions(telemetry) : null,
    scrapePort: enabled && port !== null ? { host: host ?? '127.0.0.1', port, path } : null,
  }
}

function collectorOptions(telemetry: Config['telemetry']): CollectorOptions {
  const { transport } = telemetry
  const standard =
    transport === 'grpc' ? 'http://localhost:4317' : 'http://localhost:4318/v1/metrics'
  return {
    transport,
    endpoint: telemetry.endpoint ?? standard,
    insecure: telemetry.insecure,
    headers: telemetry.headers,
    intervalMs: Math.min(telemetry.exportIntervalSeconds * 1_000, MAX_TIMER_MS),
    timeoutMs: Math.min(telemetry.exportTimeoutSeconds * 1_000, MAX_TIMER_MS),
    maxQueued: telemetry.maxQueueSize,
    batchSize: telemetry.queueBatchSize,
    dropsWhenFull: telemetry.dropOnQueueFull,
  }
}
