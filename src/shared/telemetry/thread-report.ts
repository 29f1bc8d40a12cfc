/** Hands on what a thread counted, every few seconds and once more at its end, with what is to be known of any thread: its event loop and its memory. */
import { monitorEventLoopDelay, performance } from 'node:perf_hooks'
import type { EventLoopUtilization, IntervalHistogram } from 'node:perf_hooks'

import type { MetricsDelta } from './delta.ts'
import type { MetricRecorder } from './recorder.ts'

/** How often the event loop is looked at, in milliseconds: a longer hold-up is seen whole, a shorter one by chance. */
const LOOP_RESOLUTION_MS = 20

/** What a report is made with. */
export interface ThreadReportOptions {
  readonly recorder: MetricRecorder
  /** Name of this thread among those of the replica. */
  readonly thread: string
  readonly intervalMs: number
  readonly send: (delta: MetricsDelta) => void
}

/** See the file comment. */
export class ThreadReport {
  readonly #options: ThreadReportOptions
  readonly #loop: IntervalHistogram
  readonly #timer: NodeJS.Timeout
  #utilization: EventLoopUtilization
  #lookedAtMs = performance.now()

  /** Begins at once. */
  constructor(options: ThreadReportOptions) {
    this.#options = options
    this.#loop = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS })
    this.#loop.enable()
    this.#utilization = performance.eventLoopUtilization()
    options.recorder.beforeReport(() => this.#sample())
    this.#timer = setInterval(() => this.send(), options.intervalMs)
    this.#timer.unref()
  }

  /** Hands on what was counted up to now. */
  send(): void {
    this.#options.send(this.#options.recorder.take())
  }

  /** Hands on the rest; nothing is sent after it. */
  end(): void {
    clearInterval(this.#timer)
    this.send()
    this.#loop.disable()
  }

  #sample(): void {
    this.#sampleMemory()
    // A scrape asks between two reports. What the loop did since the last one may be nothing but to answer the scrape: the last figures stay.
    const now = performance.now()
    if (now - this.#lookedAtMs < this.#options.intervalMs / 2) return
    this.#lookedAtMs = now
    this.#sampleLoop()
  }

  #sampleLoop(): void {
    const { recorder, thread } = this.#options
    const delay = (stat: 'mean' | 'p99' | 'max', nanoseconds: number): void => {
      // The histogram holds the whole time between two looks; before its first one it is not a number.
      const lateMs = Number.isFinite(nanoseconds) ? nanoseconds / 1e6 - LOOP_RESOLUTION_MS : 0
      const seconds = Math.max(0, lateMs) / 1_000
      recorder.set('adapter_event_loop_delay_seconds', { thread, stat }, seconds)
    }
    delay('mean', this.#loop.mean)
    delay('p99', this.#loop.percentile(99))
    delay('max', this.#loop.count === 0 ? 0 : this.#loop.max)
    this.#loop.reset()
    const now = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(now, this.#utilization)
    this.#utilization = now
    recorder.set('adapter_event_loop_utilization_ratio', { thread }, utilization)
  }

  #sampleMemory(): void {
    const { recorder, thread } = this.#options
    const memory = process.memoryUsage()
    for (const [kind, bytes] of [
      ['heap_used', memory.heapUsed],
      ['heap_total', memory.heapTotal],
      ['external', memory.external],
      ['array_buffers', memory.arrayBuffers],
    ] as const)
      recorder.set('adapter_memory_bytes', { thread, kind }, bytes)
  }
}
