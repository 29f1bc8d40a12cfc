/** From totals to what OpenTelemetry's exporters take, cut into batches. */
import { ValueType } from '@opentelemetry/api'
import type { Attributes, HrTime } from '@opentelemetry/api'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { AggregationTemporality, DataPointType } from '@opentelemetry/sdk-metrics'
import type { MetricData, ResourceMetrics } from '@opentelemetry/sdk-metrics'

import { specOf } from '../catalogue.ts'
import type { MetricName } from '../catalogue.ts'
import type { MetricSpec } from '../metric.ts'
import type { ResourceAttributes } from '../telemetry-options.ts'
import type { Batch } from './export-queue.ts'
import type { Point, Totals } from './totals.ts'

/** Name of the meter. */
const SCOPE_NAME = 'remote_mcp_adapter'

/** How batches are made. */
export interface BatchOptions {
  readonly resource: ResourceAttributes
  readonly version: string
  /** Data points in one batch. */
  readonly batchSize: number
}

/** All that is known, as of `nowMs` (Unix time), in batches. */
export function otlpBatches(
  totals: Totals,
  options: BatchOptions,
  nowMs: number,
): Batch<ResourceMetrics>[] {
  const { resource: attributes, version, batchSize } = options
  const resource = resourceFromAttributes({ ...attributes })
  const times = { startTime: hrTime(totals.startedAtMs), endTime: hrTime(nowMs) }
  const batches: Batch<ResourceMetrics>[] = []
  let metrics: MetricData[] = []
  let points = 0
  const close = (): void => {
    if (points === 0) return
    const scope = { name: SCOPE_NAME, version }
    batches.push({ content: { resource, scopeMetrics: [{ scope, metrics }] }, points })
    metrics = []
    points = 0
  }
  for (const { name, points: all } of totals.metrics()) {
    for (let from = 0; from < all.length;) {
      const part = all.slice(from, from + batchSize - points)
      metrics.push(metricData(name, part, times))
      points += part.length
      from += part.length
      if (points >= batchSize) close()
    }
  }
  close()
  return batches
}

interface Times {
  readonly startTime: HrTime
  readonly endTime: HrTime
}

function metricData(name: MetricName, points: readonly Point[], times: Times): MetricData {
  const spec = specOf(name)
  const common = {
    descriptor: {
      name,
      description: spec.description,
      unit: spec.unit,
      valueType: ValueType.DOUBLE,
    },
    aggregationTemporality: AggregationTemporality.CUMULATIVE,
  }
  const attributes = (point: Point): Attributes => attributesOf(spec, point)
  switch (spec.kind) {
    case 'counter':
      return {
        ...common,
        dataPointType: DataPointType.SUM,
        isMonotonic: true,
        dataPoints: points.map((point) => {
          return { ...times, attributes: attributes(point), value: point.value }
        }),
      }
    case 'gauge':
      return {
        ...common,
        dataPointType: DataPointType.GAUGE,
        dataPoints: points.map((point) => {
          return { ...times, attributes: attributes(point), value: point.value }
        }),
      }
    case 'histogram':
      return {
        ...common,
        dataPointType: DataPointType.HISTOGRAM,
        dataPoints: points.map((point) => {
          const buckets = { boundaries: [...spec.bounds], counts: [...point.buckets] }
          const value = { buckets, sum: point.sum, count: point.value }
          return { ...times, attributes: attributes(point), value }
        }),
      }
  }
}

function attributesOf(spec: MetricSpec, { labels }: Point): Attributes {
  return Object.fromEntries(
    Object.keys(spec.labels).map((label, index) => [label, labels[index] ?? '']),
  )
}

/** Seconds and nanoseconds. */
function hrTime(ms: number): HrTime {
  const seconds = Math.trunc(ms / 1_000)
  return [seconds, Math.round((ms - seconds * 1_000) * 1e6)]
}
