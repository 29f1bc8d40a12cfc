/** Thread entry: exports what all threads hand over, so that neither serialising it nor a collector that hangs is felt anywhere else. */
import { parentPort, workerData } from 'node:worker_threads'

import type { ExportThreadOptions, FromExportThread, ToExportThread } from '../records.ts'
import { RecordExport } from './record-export.ts'

/** How often the primary hears what was exported and dropped, in milliseconds. */
const COUNTS_MS = 1_000

// Only `TelemetryExport` starts this thread.
const records = new RecordExport(workerData as ExportThreadOptions, (signal, problem) =>
  tell({ kind: 'health', signal, problem, counts: records.counts }),
)
let told = ''

function tell(event: FromExportThread): void {
  parentPort?.postMessage(event)
}

function tellCounts(): void {
  const { counts } = records
  const text = JSON.stringify(counts)
  if (text === told) return
  told = text
  tell({ kind: 'counts', counts })
}

const reports = setInterval(tellCounts, COUNTS_MS)

async function stop(limitMs: number): Promise<void> {
  clearInterval(reports)
  await records.finish(limitMs)
  tellCounts()
  await records.close()
  // Connections to the collector must not keep the thread.
  process.exit()
}

parentPort?.on('message', (message: ToExportThread) => {
  switch (message.kind) {
    case 'connect':
      records.connect(message.port)
      return
    case 'hasten':
      records.hasten()
      return
    case 'stop':
      void stop(message.limitMs)
  }
})
