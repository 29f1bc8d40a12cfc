/** Exports all that is known to the collector, every few seconds and when asked to, and counts what became of it. */
import type { ResourceMetrics } from '@opentelemetry/sdk-metrics'

import type { Recorder } from '../recorder.ts'
import type { CollectorOptions } from '../telemetry-options.ts'
import { ExportQueue } from './export-queue.ts'
import type { Batch } from './export-queue.ts'
import type { OtlpExporter } from './otlp-exporter.ts'
import { RareWarnings } from '../../rare-warnings.ts'

/** What a link works with. */
export interface CollectorLinkParts {
  readonly options: CollectorOptions
  readonly exporter: OtlpExporter
  readonly recorder: Recorder
  /** All that is known now. */
  readonly collect: () => Batch<ResourceMetrics>[]
  readonly tell: (message: string, details: Readonly<Record<string, unknown>>) => void
}

/** See the file comment. Begins at once. */
export class CollectorLink {
  readonly #parts: CollectorLinkParts
  readonly #queue: ExportQueue<ResourceMetrics>
  readonly #timer: NodeJS.Timeout

  constructor(parts: CollectorLinkParts) {
    this.#parts = parts
    const { options, exporter, recorder, tell } = parts
    const warnings = new RareWarnings(tell)
    const signal = 'metrics'
    this.#queue = new ExportQueue({
      maxPoints: options.maxQueued,
      dropsWhenFull: options.dropsWhenFull,
      send: (content) => exporter.send(content),
      onSent: () => recorder.add('adapter_telemetry_exports_total', { signal, result: 'success' }),
      onFailed: (error, points) => {
        recorder.add('adapter_telemetry_exports_total', { signal, result: 'failure' })
        recorder.add('adapter_telemetry_dropped_total', { signal, reason: 'export_failed' }, points)
        const reason = error instanceof Error ? error.message : String(error)
        warnings.warn('metrics could not be exported', { reason: reason.slice(0, 300), points })
      },
      onDropped: (points, reason) => {
        recorder.add('adapter_telemetry_dropped_total', { signal, reason }, points)
        const details = { points, max_queue_size: options.maxQueued }
        if (reason === 'queue_full')
          warnings.warn('metrics wait for the collector; the oldest are dropped', details)
        else warnings.warn('metrics were not exported before the end', { points })
      },
    })
    recorder.beforeReport(() => {
      recorder.set('adapter_telemetry_queue_size', { signal }, this.#queue.points)
    })
    this.#timer = setInterval(() => this.export(), options.intervalMs)
    this.#timer.unref()
  }

  /** Hands all that is known to the queue, when that has room. */
  export(): void {
    const batches = this.#parts.collect()
    const points = batches.reduce((sum, batch) => sum + batch.points, 0)
    if (this.#queue.hasRoomFor(points)) this.#queue.offer(batches)
  }

  /** Exports once more and resolves when all is sent, or after `limitMs`; with 0 only gives up. */
  async finish(limitMs: number): Promise<void> {
    clearInterval(this.#timer)
    if (limitMs > 0) this.export()
    await this.#queue.drain(limitMs)
  }
}
