/** Every metric of the adapter: the one source for what is recorded, exported and documented (docs/telemetry.md). */
import { FILE_METRICS } from './file-metrics.ts'
import type { CounterSpec, GaugeSpec, HistogramSpec, LabelValues, MetricSpec } from './metric.ts'
import { PROCESS_METRICS } from './process-metrics.ts'
import { REQUEST_METRICS } from './request-metrics.ts'
import { STATE_METRICS } from './state-metrics.ts'

/** By name, as exported over OTLP and to Prometheus. */
export const METRICS = {
  ...REQUEST_METRICS,
  ...FILE_METRICS,
  ...STATE_METRICS,
  ...PROCESS_METRICS,
} as const satisfies Readonly<Record<string, MetricSpec>>

type Catalogue = typeof METRICS

/** A metric of the catalogue. */
export type MetricName = keyof Catalogue

type NamesOf<Spec> = {
  [N in MetricName]: Catalogue[N] extends Spec ? N : never
}[MetricName]

export type CounterName = NamesOf<CounterSpec>
export type HistogramName = NamesOf<HistogramSpec>
export type GaugeName = NamesOf<GaugeSpec>

type ValueOf<V extends LabelValues> = V extends readonly string[] ? V[number] : string

/** The labels that a record of a metric has: all of them, with values that are allowed. */
export type Labels<N extends MetricName> = {
  readonly [L in keyof Catalogue[N]['labels']]: Catalogue[N]['labels'][L] extends LabelValues
    ? ValueOf<Catalogue[N]['labels'][L]>
    : never
}

/** The value of one label of a metric. */
export type LabelOf<N extends MetricName, L extends keyof Labels<N>> = Labels<N>[L]

/** All metrics, in the order of the catalogue. */
export const METRIC_NAMES: readonly MetricName[] = Object.keys(METRICS) as MetricName[] // the keys of a constant

/** A metric's description, without the types of its labels. */
export function specOf(name: MetricName): MetricSpec {
  return METRICS[name]
}

/** Whether a text names a metric: what comes from another thread or a file is only text. */
export function isMetricName(name: string): name is MetricName {
  return Object.hasOwn(METRICS, name)
}
