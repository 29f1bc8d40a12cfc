/**
 * Counts what a thread does, in plain numbers: recording is synchronous, waits for nothing and knows nothing of exporters. What was counted is taken
 * out as a `MetricsDelta` from time to time.
 */
import { METRIC_NAMES, specOf } from './catalogue.ts'
import type { CounterName, GaugeName, HistogramName, Labels, MetricName } from './catalogue.ts'
import type { HistogramDelta, LabelList, MetricsDelta, NumberDelta } from './delta.ts'

/** Label sets that one metric may have in one thread; what comes beyond is counted under `overflow`. */
export const MAX_LABEL_SETS = 2_000

/** What stands for each label of a label set that is one too many. */
export const OVERFLOW = 'overflow'

/** A counter with its labels: for places where looking them up each time would cost too much. */
export interface CounterCell {
  add(amount: number): void
}

/** A histogram with its labels. */
export interface HistogramCell {
  observe(value: number): void
}

/** Where things are counted. Nothing here throws or waits. */
export interface Recorder {
  /** False where nothing is counted: then what only serves to count need not be found out. */
  readonly isOn: boolean
  /** `amount` 0 says that there is such a counter: whoever looks sees it begin at 0. */
  add<N extends CounterName>(name: N, labels: Labels<N>, amount?: number): void
  observe<N extends HistogramName>(name: N, labels: Labels<N>, value: number): void
  /** Says what a gauge is from now on. */
  set<N extends GaugeName>(name: N, labels: Labels<N>, value: number): void
  counter<N extends CounterName>(name: N, labels: Labels<N>): CounterCell
  histogram<N extends HistogramName>(name: N, labels: Labels<N>): HistogramCell
  /** Calls back before what was counted is taken out, to set gauges. */
  beforeReport(sample: () => void): void
}

class NumberSeries implements CounterCell {
  readonly labels: LabelList
  value = 0
  /** Whether a counter was handed on before: the first time it is also when it is 0, so that its first step can be seen. */
  isTold = false

  constructor(labels: LabelList) {
    this.labels = labels
  }

  add(amount: number): void {
    this.value += amount
  }
}

class HistogramSeries implements HistogramCell {
  readonly labels: LabelList
  readonly #bounds: readonly number[]
  counts: number[]
  sum = 0

  constructor(labels: LabelList, bounds: readonly number[]) {
    this.labels = labels
    this.#bounds = bounds
    this.counts = this.#zeros()
  }

  observe(value: number): void {
    const bounds = this.#bounds
    let bucket = 0
    while (bucket < bounds.length && value > (bounds[bucket] ?? Infinity)) bucket++
    this.counts[bucket] = (this.counts[bucket] ?? 0) + 1
    this.sum += value
  }

  take(): { counts: readonly number[]; sum: number } {
    const taken = { counts: this.counts, sum: this.sum }
    this.counts = this.#zeros()
    this.sum = 0
    return taken
  }

  #zeros(): number[] {
    return Array.from({ length: this.#bounds.length + 1 }, () => 0)
  }
}

/** One metric's series by their labels. */
class Table<S> {
  readonly #metric: MetricName
  readonly #labelNames: readonly string[]
  readonly #create: (labels: LabelList) => S
  readonly #onOverflow: (metric: MetricName) => void
  readonly #series = new Map<string, S>()
  #overflow: S | undefined

  constructor(
    metric: MetricName,
    create: (labels: LabelList) => S,
    onOverflow: (metric: MetricName) => void,
  ) {
    this.#metric = metric
    this.#labelNames = Object.keys(specOf(metric).labels)
    this.#create = create
    this.#onOverflow = onOverflow
  }

  of(labels: Readonly<Record<string, string>>): S {
    let key = ''
    for (const name of this.#labelNames) key += `${labels[name] ?? ''}\n`
    const known = this.#series.get(key)
    if (known !== undefined) return known
    if (this.#series.size >= MAX_LABEL_SETS) {
      this.#onOverflow(this.#metric)
      this.#overflow ??= this.#create(this.#labelNames.map(() => OVERFLOW))
      return this.#overflow
    }
    const made = this.#create(this.#labelNames.map((name) => labels[name] ?? ''))
    this.#series.set(key, made)
    return made
  }

  *all(): Generator<S> {
    yield* this.#series.values()
    if (this.#overflow !== undefined) yield this.#overflow
  }
}

/** The one that counts. One a thread. */
export class MetricRecorder implements Recorder {
  readonly isOn = true
  readonly #numbers = new Map<string, Table<NumberSeries>>()
  readonly #histograms = new Map<string, Table<HistogramSeries>>()
  readonly #samples: (() => void)[] = []

  constructor() {
    const onOverflow = (metric: MetricName): void =>
      this.add('adapter_telemetry_label_overflow_total', { metric })
    for (const name of METRIC_NAMES) {
      const spec = specOf(name)
      if (spec.kind === 'histogram') {
        const { bounds } = spec
        const create = (labels: LabelList) => new HistogramSeries(labels, bounds)
        this.#histograms.set(name, new Table(name, create, onOverflow))
      } else {
        const create = (labels: LabelList) => new NumberSeries(labels)
        this.#numbers.set(name, new Table(name, create, onOverflow))
      }
    }
  }

  add<N extends CounterName>(name: N, labels: Labels<N>, amount = 1): void {
    this.#number(name, labels).value += amount
  }

  observe<N extends HistogramName>(name: N, labels: Labels<N>, value: number): void {
    this.histogram(name, labels).observe(value)
  }

  set<N extends GaugeName>(name: N, labels: Labels<N>, value: number): void {
    this.#number(name, labels).value = value
  }

  counter<N extends CounterName>(name: N, labels: Labels<N>): CounterCell {
    return this.#number(name, labels)
  }

  histogram<N extends HistogramName>(name: N, labels: Labels<N>): HistogramCell {
    const table = this.#histograms.get(name)
    if (table === undefined) throw new RangeError(`no histogram ${name}`)
    return table.of(labels)
  }

  beforeReport(sample: () => void): void {
    this.#samples.push(sample)
  }

  /** What was counted since the last time, and what gauges are. */
  take(): MetricsDelta {
    for (const sample of this.#samples) sample()
    const counters: NumberDelta[] = []
    const gauges: NumberDelta[] = []
    for (const [name, table] of this.#numbers) {
      const isGauge = specOf(name as MetricName).kind === 'gauge' // the keys come from the catalogue
      for (const series of table.all()) {
        if (isGauge) gauges.push([name, series.labels, series.value])
        else if (series.value !== 0 || !series.isTold) {
          counters.push([name, series.labels, series.value])
          series.value = 0
          series.isTold = true
        }
      }
    }
    const histograms: HistogramDelta[] = []
    for (const [name, table] of this.#histograms) {
      for (const series of table.all()) {
        if (!series.counts.some((count) => count > 0)) continue
        const { counts, sum } = series.take()
        histograms.push([name, series.labels, counts, sum])
      }
    }
    return { counters, histograms, gauges }
  }

  #number(name: MetricName, labels: Readonly<Record<string, string>>): NumberSeries {
    const table = this.#numbers.get(name)
    if (table === undefined) throw new RangeError(`no counter or gauge ${name}`)
    return table.of(labels)
  }
}

const NO_CELL: CounterCell & HistogramCell = { add: () => {}, observe: () => {} }

/** Counts nothing: while telemetry is off. */
export const NOT_RECORDING: Recorder = {
  isOn: false,
  add: () => {},
  observe: () => {},
  set: () => {},
  counter: () => NO_CELL,
  histogram: () => NO_CELL,
  beforeReport: () => {},
}
