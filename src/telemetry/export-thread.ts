/** Thread entry: takes records from all threads and exports them, so that neither serialising them nor a collector that hangs is felt anywhere else. */
import { parentPort, workerData } from 'node:worker_threads'
import type { MessagePort } from 'node:worker_threads'

import { NO_COUNTS } from '../shared/telemetry/records.ts'
import type {
  ExportCounts,
  ExportThreadOptions,
  FromExportThread,
  SignalOptions,
  TelemetryBatch,
  ToExportThread,
} from '../shared/telemetry/records.ts'
import { BatchQueue } from './batch-queue.ts'
import { logSender, spanSender } from './otlp.ts'
import type { OtlpSender } from './otlp.ts'

/** How often the primary hears what was exported and dropped, in milliseconds. */
const COUNTS_MS = 1_000

// Only `TelemetryExport` starts this thread.
const options = workerData as ExportThreadOptions

interface Signal<T> {
  readonly queue: BatchQueue<T>
  readonly sender: OtlpSender<T>
}

function open<T>(
  name: 'logs' | 'spans',
  signal: SignalOptions | undefined,
  makeSender: (options: ExportThreadOptions, signal: SignalOptions) => OtlpSender<T>,
): Signal<T> | undefined {
  if (signal === undefined) return undefined
  const sender = makeSender(options, signal)
  const queue = new BatchQueue<T>({
    ...signal,
    send: (batch) => sender.send(batch),
    onChange: (problem) => tell({ kind: 'health', signal: name, problem, counts: counts() }),
  })
  return { queue, sender }
}

const logs = open('logs', options.logs, logSender)
const spans = open('spans', options.spans, spanSender)
const ports = new Set<MessagePort>()
let told = ''
let whenAllClosed: (() => void) | undefined

function counts(): ExportCounts {
  return { logs: logs?.queue.counts ?? NO_COUNTS, spans: spans?.queue.counts ?? NO_COUNTS }
}

function tell(event: FromExportThread): void {
  parentPort?.postMessage(event)
}

function take({ logs: entries, spans: ended, dropped }: TelemetryBatch): void {
  logs?.queue.noteDropped(dropped.logs)
  spans?.queue.noteDropped(dropped.spans)
  logs?.queue.add(entries)
  spans?.queue.add(ended)
}

function connect(port: MessagePort): void {
  ports.add(port)
  port.on('message', (batch: TelemetryBatch) => {
    take(batch)
    port.postMessage('taken')
  })
  port.on('close', () => {
    ports.delete(port)
    if (ports.size === 0) whenAllClosed?.()
  })
}

const reports = setInterval(() => {
  const now = counts()
  const text = JSON.stringify(now)
  if (text === told) return
  told = text
  tell({ kind: 'counts', counts: now })
}, COUNTS_MS)

/** Resolves when all threads have ended, and what they handed over before is here; or after `limitMs`. */
async function allClosed(limitMs: number): Promise<void> {
  if (ports.size === 0 || limitMs <= 0) return
  let limit: NodeJS.Timeout | undefined
  await new Promise<void>((resolve) => {
    whenAllClosed = resolve
    limit = setTimeout(resolve, limitMs)
  })
  clearTimeout(limit)
}

async function stop(limitMs: number): Promise<void> {
  clearInterval(reports)
  const deadlineAtMs = Date.now() + limitMs
  await allClosed(limitMs)
  const leftMs = deadlineAtMs - Date.now()
  await Promise.all([logs?.queue.flush(leftMs), spans?.queue.flush(leftMs)])
  tell({ kind: 'counts', counts: counts() })
  for (const port of ports) port.close()
  await Promise.allSettled([logs?.sender.shutdown(), spans?.sender.shutdown()])
  // Connections to the collector must not keep the thread.
  process.exit()
}

parentPort?.on('message', (message: ToExportThread) => {
  if (message.kind === 'connect') connect(message.port)
  else void stop(message.limitMs)
})
