/** A worker thread as it is in production, which fails when a test says so on the channel `crash`. */
import { BroadcastChannel, workerData } from 'node:worker_threads'

// oxlint-disable-next-line import/no-unassigned-import -- it is the thread's entry
import '../../src/worker/main.ts'
import type { WorkerOptions } from '../../src/shared/worker-options.ts'

/** `worker` is an index, or `state` for the state thread. */
export interface CrashOrder {
  readonly thread: number | 'state'
}

const { index } = workerData as WorkerOptions // the supervisor passes them
const channel = new BroadcastChannel('crash')
// oxlint-disable-next-line unicorn/prefer-add-event-listener -- the types of this channel have no other
channel.onmessage = (event: unknown) => {
  const order = (event as { data: CrashOrder }).data // only the tests post here
  if (order.thread !== index) return
  setImmediate(() => {
    throw new Error('this worker was told to crash')
  })
}
channel.unref()
