/** Takes log records and spans from all threads, and exports them. Knows nothing of the thread that it runs in. */
import type { MessagePort } from 'node:worker_threads'

import { NO_COUNTS } from '../records.ts'
import type {
  ExportCounts,
  ExportThreadOptions,
  SignalOptions,
  TelemetryBatch,
} from '../records.ts'
import { BatchQueue } from './batch-queue.ts'
import { logSender, spanSender } from './otlp.ts'
import type { OtlpSender } from './otlp.ts'

/** Hears that exports of one kind began to fail, or (`problem` undefined) go through again. */
export type HealthListener = (signal: 'logs' | 'spans', problem: string | undefined) => void

interface Signal<T> {
  readonly queue: BatchQueue<T>
  readonly sender: OtlpSender<T>
}

/** See the file comment. */
export class RecordExport {
  readonly #logs: Signal<TelemetryBatch['logs'][number]> | undefined
  readonly #spans: Signal<TelemetryBatch['spans'][number]> | undefined
  readonly #ports = new Set<MessagePort>()
  #whenAllClosed: (() => void) | undefined

  constructor(options: ExportThreadOptions, onHealth: HealthListener) {
    const { logs, spans } = options
    this.#logs =
      logs && open(logs, logSender(options, logs), (problem) => onHealth('logs', problem))
    this.#spans =
      spans && open(spans, spanSender(options, spans), (problem) => onHealth('spans', problem))
  }

  get counts(): ExportCounts {
    return {
      logs: this.#logs?.queue.counts ?? NO_COUNTS,
      spans: this.#spans?.queue.counts ?? NO_COUNTS,
    }
  }

  /** Takes batches from one more thread, until it closes the port. */
  connect(port: MessagePort): void {
    this.#ports.add(port)
    port.on('message', (batch: TelemetryBatch) => {
      this.#take(batch)
      port.postMessage('taken')
    })
    port.on('close', () => {
      this.#ports.delete(port)
      if (this.#ports.size === 0) this.#whenAllClosed?.()
    })
  }

  /** Sends what waits, and what is handed over from here on, before its time. */
  hasten(): void {
    this.#logs?.queue.hasten()
    this.#spans?.queue.hasten()
  }

  /** Waits for all threads to close their ports, and exports what they handed over, within `limitMs`; the rest is dropped. */
  async finish(limitMs: number): Promise<void> {
    const deadlineAtMs = Date.now() + limitMs
    await this.#allClosed(limitMs)
    const leftMs = deadlineAtMs - Date.now()
    await Promise.all([this.#logs?.queue.flush(leftMs), this.#spans?.queue.flush(leftMs)])
  }

  /** Frees connections to the collector. */
  async close(): Promise<void> {
    for (const port of this.#ports) port.close()
    await Promise.allSettled([this.#logs?.sender.shutdown(), this.#spans?.sender.shutdown()])
  }

  #take({ logs, spans, dropped }: TelemetryBatch): void {
    this.#logs?.queue.noteDropped(dropped.logs)
    this.#spans?.queue.noteDropped(dropped.spans)
    this.#logs?.queue.add(logs)
    this.#spans?.queue.add(spans)
  }

  async #allClosed(limitMs: number): Promise<void> {
    if (this.#ports.size === 0 || limitMs <= 0) return
    let limit: NodeJS.Timeout | undefined
    await new Promise<void>((resolve) => {
      this.#whenAllClosed = resolve
      limit = setTimeout(resolve, limitMs)
    })
    clearTimeout(limit)
  }
}

function open<T>(
  signal: SignalOptions,
  sender: OtlpSender<T>,
  onChange: (problem: string | undefined) => void,
): Signal<T> {
  const queue = new BatchQueue<T>({ ...signal, send: (batch) => sender.send(batch), onChange })
  return { queue, sender }
}
