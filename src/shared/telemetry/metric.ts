/** What a metric is described by: see `catalogue.ts` for the metrics themselves. */

/** The values of a label: listed, or from a bounded set that only a replica knows. */
export type LabelValues = readonly string[] | OpenValues

/** Values that are not listed here. `from` says what bounds them: never text of a client's or an upstream's. */
export interface OpenValues {
  readonly from: string
}

/** Labels by their names, as OpenTelemetry has them; Prometheus gets underscores for dots. */
export type LabelSpecs = Readonly<Record<string, LabelValues>>

/** Units of UCUM, as OpenTelemetry writes them. */
export type Unit =
  | '1'
  | 's'
  | 'By'
  | '{file}'
  | '{frame}'
  | '{lease}'
  | '{point}'
  | '{server}'
  | '{session}'
  | '{worker}'

interface Described<L extends LabelSpecs> {
  readonly unit: Unit
  readonly description: string
  readonly labels: L
}

/** Grows only; what all threads counted is added up. */
export interface CounterSpec<L extends LabelSpecs = LabelSpecs> extends Described<L> {
  readonly kind: 'counter'
}

/** Counts of values up to each of `bounds`, in ascending order, and their sum. */
export interface HistogramSpec<L extends LabelSpecs = LabelSpecs> extends Described<L> {
  readonly kind: 'histogram'
  readonly bounds: readonly number[]
}

/** A value that goes up and down; `merge` says what threads that have the same labels amount to. */
export interface GaugeSpec<L extends LabelSpecs = LabelSpecs> extends Described<L> {
  readonly kind: 'gauge'
  readonly merge: 'sum' | 'max'
}

/** Any of the three. */
export type MetricSpec = CounterSpec | HistogramSpec | GaugeSpec

export function counter<const L extends LabelSpecs>(
  unit: Unit,
  description: string,
  labels: L,
): CounterSpec<L> {
  return { kind: 'counter', unit, description, labels }
}

export function histogram<const L extends LabelSpecs>(
  bounds: readonly number[],
  description: string,
  labels: L,
): HistogramSpec<L> {
  return { kind: 'histogram', unit: 's', bounds, description, labels }
}

export function gauge<const L extends LabelSpecs>(
  unit: Unit,
  merge: GaugeSpec['merge'],
  description: string,
  labels: L,
): GaugeSpec<L> {
  return { kind: 'gauge', unit, merge, description, labels }
}

/** Whole exchanges, in seconds: from what the adapter answers by itself to calls that take minutes. */
export const EXCHANGE_BOUNDS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300,
] as const

/** What should be quick, in seconds. */
export const STEP_BOUNDS = [
  0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5,
] as const

export const SERVER = {
  from: 'configured server ids; `global` where no server is concerned, `unknown` for an id that is not configured',
} as const

export const ROUTE_GROUP = {
  from: 'configured mount paths; `<upload_path>/{server_id}`, `/artifacts/{server_id}/{session_id}/{artifact_id}/{filename}`, `/.well-known/*`, `/livez`, `/readyz`, `/healthz`, `/metrics`, `other`',
} as const

export const STATUS_CODE = { from: 'HTTP status codes; 499 where the client left first' } as const

export const STATUS_CLASS = ['1xx', '2xx', '3xx', '4xx', '5xx'] as const

export const THREAD = { from: '`primary`, `worker-<n>`, `state`' } as const
