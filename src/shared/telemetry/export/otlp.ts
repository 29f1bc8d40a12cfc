/** OTLP over HTTP (protobuf) or gRPC: makes the exporters, and gives records the form that they take. */
import { credentials, Metadata } from '@grpc/grpc-js'
import { OTLPLogExporter as GrpcLogExporter } from '@opentelemetry/exporter-logs-otlp-grpc'
import { OTLPLogExporter as HttpLogExporter } from '@opentelemetry/exporter-logs-otlp-proto'
import { OTLPTraceExporter as GrpcTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc'
import { OTLPTraceExporter as HttpTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import { resourceFromAttributes } from '@opentelemetry/resources'

import type { ExportThreadOptions, LogEntry, SignalOptions, SpanEntry } from '../records.ts'
import { grpcAddress, httpAddress } from './collector-address.ts'

type LogRecords = Parameters<HttpLogExporter['export']>[0]
type Spans = Parameters<HttpTraceExporter['export']>[0]
type Span = Spans[number]

/** Sends records of one kind. */
export interface OtlpSender<T> {
  /** Rejects when the collector did not take them within the time limit. */
  send(entries: readonly T[]): Promise<void>
  shutdown(): Promise<void>
}

/** `SpanKind.SERVER`, `SpanStatusCode.ERROR` and `TraceFlags.SAMPLED` of OpenTelemetry's API. */
const SERVER = 1
const ERROR = 2
const SAMPLED = 1

/** Makes the sender of log records. */
export function logSender(
  options: ExportThreadOptions,
  signal: SignalOptions,
): OtlpSender<LogEntry> {
  const exporter =
    options.transport === 'grpc'
      ? new GrpcLogExporter(grpcOptions(options, signal))
      : new HttpLogExporter(httpOptions(options, signal))
  const common = commonOf(options)
  return senderOf(exporter, (entry) => logRecord(entry, common))
}

/** Makes the sender of spans. */
export function spanSender(
  options: ExportThreadOptions,
  signal: SignalOptions,
): OtlpSender<SpanEntry> {
  const exporter =
    options.transport === 'grpc'
      ? new GrpcTraceExporter(grpcOptions(options, signal))
      : new HttpTraceExporter(httpOptions(options, signal))
  const common = commonOf(options)
  return senderOf(exporter, (entry) => spanRecord(entry, common))
}

function senderOf<T, R>(
  exporter: {
    export(records: R[], done: (result: { code: number; error?: Error }) => void): void
    shutdown(): Promise<void>
  },
  recordOf: (entry: T) => R,
): OtlpSender<T> {
  return {
    send: (entries) =>
      new Promise((resolve, reject) => {
        exporter.export(entries.map(recordOf), ({ code, error }) => {
          if (code === 0) resolve()
          else reject(error ?? new Error('the collector did not take it'))
        })
      }),
    shutdown: () => exporter.shutdown(),
  }
}

function httpOptions({ headers }: ExportThreadOptions, { endpoint, timeoutMs }: SignalOptions) {
  const { url, authorization } = httpAddress(endpoint)
  return { url, headers: { ...authorization, ...headers }, timeoutMillis: timeoutMs }
}

function grpcOptions(
  { headers, insecure }: ExportThreadOptions,
  { endpoint, timeoutMs }: SignalOptions,
) {
  const { url, isTls, authorization } = grpcAddress(endpoint, insecure)
  const metadata = new Metadata()
  for (const [name, value] of Object.entries({ ...authorization, ...headers }))
    metadata.set(name, value)
  return {
    url,
    metadata,
    credentials: isTls ? credentials.createSsl() : credentials.createInsecure(),
    timeoutMillis: timeoutMs,
  }
}

function commonOf({ resource, version }: ExportThreadOptions) {
  return {
    resource: resourceFromAttributes(resource),
    instrumentationScope: { name: 'remote-mcp-adapter', version },
  }
}

type Common = ReturnType<typeof commonOf>

function logRecord(entry: LogEntry, common: Common): LogRecords[number] {
  const time = hrTime(entry.timeMs)
  return {
    ...common,
    hrTime: time,
    hrTimeObserved: time,
    severityNumber: entry.severity,
    severityText: severityText(entry.severity),
    body: entry.text,
    attributes: entry.attributes,
    droppedAttributesCount: 0,
  }
}

function severityText(severity: number): string {
  const names = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL']
  return names[Math.floor((severity - 1) / 4)] ?? 'INFO'
}

function spanRecord(entry: SpanEntry, common: Common): Span {
  const { traceId, spanId, parentSpanId, startMs, endMs } = entry
  const state = entry.traceState === undefined ? {} : { traceState: stateOf(entry.traceState) }
  const context = { traceId, spanId, traceFlags: SAMPLED, ...state }
  return {
    ...common,
    name: entry.name,
    kind: SERVER,
    spanContext: () => context,
    ...(parentSpanId === undefined
      ? {}
      : {
          parentSpanContext: { traceId, spanId: parentSpanId, traceFlags: SAMPLED, isRemote: true },
        }),
    startTime: hrTime(startMs),
    endTime: hrTime(endMs),
    duration: hrTime(endMs - startMs),
    status: entry.isError ? { code: ERROR } : { code: 0 },
    attributes: entry.attributes,
    links: [],
    events: [],
    ended: true,
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  }
}

/** As it came: nothing here looks into it. */
function stateOf(text: string) {
  const state = {
    get: () => undefined,
    set: () => state,
    unset: () => state,
    serialize: () => text,
  }
  return state
}

function hrTime(ms: number): [number, number] {
  const seconds = Math.floor(ms / 1_000)
  return [seconds, Math.round((ms - seconds * 1_000) * 1_000_000)]
}
