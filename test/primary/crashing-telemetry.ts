/** The telemetry thread as it is in production, which fails when a test says so on the channel `crash-telemetry`. */
import { BroadcastChannel } from 'node:worker_threads'

// oxlint-disable-next-line import/no-unassigned-import -- it is the thread's entry
import '../../src/shared/telemetry/export/main.ts'

/** What a test posts. */
export type CrashMessage = 'crash'

const channel = new BroadcastChannel('crash-telemetry')
// oxlint-disable-next-line unicorn/prefer-add-event-listener -- the types of this channel have no other
channel.onmessage = () => {
  setImmediate(() => {
    throw new Error('this thread was told to crash')
  })
}
channel.unref()
