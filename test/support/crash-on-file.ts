/** Loaded into every thread of an adapter (`NODE_OPTIONS=--import`): has a worker fail when a file appears, which the worker takes away. */
import { rmSync } from 'node:fs'
import { isMainThread, workerData } from 'node:worker_threads'

const file = process.env['CRASH_WORKER_FILE']

if (!isMainThread && file !== undefined && isWorker(workerData)) {
  setInterval(() => {
    try {
      rmSync(file)
    } catch {
      return
    }
    setImmediate(() => {
      throw new Error('this worker was told to crash')
    })
  }, 10).unref()
}

/** Workers are the threads that get frames from the primary. */
function isWorker(data: unknown): boolean {
  return typeof data === 'object' && data !== null && 'framePort' in data
}
