/** What a thread counted since it last said so, as it crosses to the thread that adds it all up. */

/** Values of a metric's labels, in the order of the catalogue. */
export type LabelList = readonly string[]

/** For a counter how much it grew, for a gauge what it is. */
export type NumberDelta = readonly [metric: string, labels: LabelList, value: number]

/** How much each bucket grew (the last is for what is above all bounds), and the sum. */
export type HistogramDelta = readonly [
  metric: string,
  labels: LabelList,
  counts: readonly number[],
  sum: number,
]

/** See the file comment. Only what changed is in it, but for gauges, which are all there. */
export interface MetricsDelta {
  readonly counters: readonly NumberDelta[]
  readonly histograms: readonly HistogramDelta[]
  readonly gauges: readonly NumberDelta[]
}
