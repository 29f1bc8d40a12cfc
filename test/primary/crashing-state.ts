/** The state thread as it is in production, which fails when a test says so on the channel `crash`. */
import { BroadcastChannel } from 'node:worker_threads'

// oxlint-disable-next-line import/no-unassigned-import -- it is the thread's entry
import '../../src/shared/state/state-thread.ts'
import type { CrashOrder } from './crashing-worker.ts'

const channel = new BroadcastChannel('crash')
// oxlint-disable-next-line unicorn/prefer-add-event-listener -- the types of this channel have no other
channel.onmessage = (event: unknown) => {
  const order = (event as { data: CrashOrder }).data // only the tests post here
  if (order.thread !== 'state') return
  setImmediate(() => {
    throw new Error('the state thread was told to crash')
  })
}
channel.unref()
