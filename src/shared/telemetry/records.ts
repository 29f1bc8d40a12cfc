/** What threads hand over for export: plain data that crosses by structured clone. Everything in it has been redacted where it was made. */
import type { MessagePort } from 'node:worker_threads'

/** Values of attributes. */
export type AttributeValue = string | number | boolean

/** Names to values. */
export type Attributes = Readonly<Record<string, AttributeValue>>

/** One line of a log. */
export interface LogEntry {
  /** When it was written, in milliseconds since 1970. */
  readonly timeMs: number
  /** Of OpenTelemetry: 5 debug, 9 info, 13 warn, 17 error, 21 fatal. */
  readonly severity: number
  readonly text: string
  readonly attributes: Attributes
}

/** One call, over. Ids are lower-case hexadecimal, as in W3C Trace Context. */
export interface SpanEntry {
  readonly traceId: string
  readonly spanId: string
  /** Undefined where a trace begins here. */
  readonly parentSpanId: string | undefined
  readonly traceState: string | undefined
  readonly name: string
  /** In milliseconds since 1970, with fractions. */
  readonly startMs: number
  readonly endMs: number
  readonly attributes: Attributes
  /** Whether the call failed. */
  readonly isError: boolean
}

/** How much was not handed over, since the last time. */
export interface Dropped {
  readonly logs: number
  readonly spans: number
}

/** Thread → export thread; each is answered by `'taken'`, and only then comes the next. */
export interface TelemetryBatch {
  readonly logs: readonly LogEntry[]
  readonly spans: readonly SpanEntry[]
  readonly dropped: Dropped
}

/** What became of the records of one kind, since the start: exported, or dropped for one of three reasons. */
export interface SignalCounts {
  readonly exported: number
  /** There was no room: the collector is slower than this replica. */
  readonly queueFull: number
  /** The collector did not take it. */
  readonly exportFailed: number
  /** It was left when the time for the last export was over. */
  readonly shutdown: number
}

/** The same of both kinds. */
export interface ExportCounts {
  readonly logs: SignalCounts
  readonly spans: SignalCounts
}

/** Before anything was exported. */
export const NO_COUNTS: SignalCounts = { exported: 0, queueFull: 0, exportFailed: 0, shutdown: 0 }

/** What the export thread is started with. */
export interface ExportThreadOptions {
  readonly transport: 'grpc' | 'http'
  /** Whether an endpoint of `grpc` that is no https:// is reached without TLS. */
  readonly insecure: boolean
  readonly headers: Readonly<Record<string, string>>
  /** Of the resource. */
  readonly resource: Attributes
  readonly version: string
  /** Undefined where logs are not exported. */
  readonly logs: SignalOptions | undefined
  /** Undefined where spans are not exported. */
  readonly spans: SignalOptions | undefined
}

/** How one kind of record is exported. */
export interface SignalOptions {
  readonly endpoint: string
  readonly maxQueueSize: number
  readonly maxBatchSize: number
  readonly delayMs: number
  readonly timeoutMs: number
}

/** Primary → export thread. */
export type ToExportThread =
  /** Takes batches from one more thread; the port is transferred with it. */
  | { readonly kind: 'connect'; readonly port: MessagePort }
  /** Exports what waits, before its time. */
  | { readonly kind: 'hasten' }
  /** Exports what is left within `limitMs` (0: nothing more), then ends. */
  | { readonly kind: 'stop'; readonly limitMs: number }

/** Export thread → primary. */
export type FromExportThread =
  | { readonly kind: 'counts'; readonly counts: ExportCounts }
  /** The outcome of exports changed, from fine to failing or back. */
  | {
      readonly kind: 'health'
      readonly signal: 'logs' | 'spans'
      readonly problem: string | undefined
      readonly counts: ExportCounts
    }
