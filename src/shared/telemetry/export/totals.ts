/**
 * What all threads counted, added up. Counters and histograms only grow, whatever becomes of the thread that counted; gauges are those of the threads
 * that are there.
 */
import { isMetricName, METRIC_NAMES, specOf } from '../catalogue.ts'
import type { MetricName } from '../catalogue.ts'
import type { LabelList, MetricsDelta, NumberDelta } from '../delta.ts'

/** One label set of a metric. `buckets` and `sum` are for histograms, whose `value` is their count. */
export interface Point {
  readonly labels: LabelList
  readonly value: number
  /** Not cumulated; the last is for what is above all bounds. */
  readonly buckets: readonly number[]
  readonly sum: number
}

interface Grown {
  readonly labels: LabelList
  value: number
  buckets: number[]
  sum: number
}

/** See the file comment. */
export class Totals {
  /** When counting began, in Unix milliseconds. */
  readonly startedAtMs: number
  readonly #grown = new Map<MetricName, Map<string, Grown>>()
  readonly #gauges = new Map<string, readonly NumberDelta[]>()

  constructor(nowMs: number) {
    this.startedAtMs = nowMs
  }

  /** Takes in what a thread counted. `source` names the thread: its gauges take the place of those that it had. */
  add(source: string, { counters, histograms, gauges }: MetricsDelta): void {
    for (const [name, labels, amount] of counters) {
      const grown = this.#of(name, labels)
      if (grown !== undefined) grown.value += amount
    }
    for (const [name, labels, counts, sum] of histograms) {
      const grown = this.#of(name, labels)
      if (grown === undefined) continue
      for (const [index, count] of counts.entries()) {
        grown.buckets[index] = (grown.buckets[index] ?? 0) + count
        grown.value += count
      }
      grown.sum += sum
    }
    this.#gauges.set(source, gauges)
  }

  /** The thread is not there any more. */
  forgetGauges(source: string): void {
    this.#gauges.delete(source)
  }

  /** Every metric that has a point, in the order of the catalogue. */
  *metrics(): Generator<{ readonly name: MetricName; readonly points: readonly Point[] }> {
    const gauges = this.#mergedGauges()
    for (const name of METRIC_NAMES) {
      const points = [...((gauges.get(name) ?? this.#grown.get(name))?.values() ?? [])]
      if (points.length > 0) yield { name, points }
    }
  }

  #of(name: string, labels: LabelList): Grown | undefined {
    return isMetricName(name) ? seriesOf(this.#grown, name, labels) : undefined
  }

  #mergedGauges(): ReadonlyMap<MetricName, ReadonlyMap<string, Grown>> {
    const merged = new Map<MetricName, Map<string, Grown>>()
    for (const gauges of this.#gauges.values()) {
      for (const [name, labels, value] of gauges) {
        if (!isMetricName(name)) continue
        const spec = specOf(name)
        const isNew = merged.get(name)?.has(labels.join('\n')) !== true
        const series = seriesOf(merged, name, labels)
        if (isNew) series.value = value
        else if (spec.kind === 'gauge' && spec.merge === 'max')
          series.value = Math.max(series.value, value)
        else series.value += value
      }
    }
    return merged
  }
}

function seriesOf(
  tables: Map<MetricName, Map<string, Grown>>,
  name: MetricName,
  labels: LabelList,
): Grown {
  const table = tables.get(name) ?? new Map<string, Grown>()
  tables.set(name, table)
  const key = labels.join('\n')
  const known = table.get(key)
  if (known !== undefined) return known
  const made = { labels, value: 0, buckets: [], sum: 0 }
  table.set(key, made)
  return made
}
