/** The primary's end of a worker: what becomes of requests when it ends. */
import { MessageChannel } from 'node:worker_threads'

import t from 'tap'

import { WorkerHandle } from '../../src/primary/dispatch/worker-handle.ts'
import { eventually } from '../support/eventually.ts'

for (const reason of ['worker_lost', 'stopping'] as const) {
  t.test(`a request that was meant for a worker that ended is failed: ${reason}`, async (t) => {
    const { port1, port2 } = new MessageChannel()
    t.teardown(() => port2.close())
    const handle = new WorkerHandle(port1, { ready: () => {}, failed: () => {} })
    const told: string[] = []
    const request = { receive: () => false, fail: (why: string) => void told.push(why) }
    handle.open(request)
    handle.lose(reason)
    t.same(told, [reason], 'one that it had in hand')
    // Its body came after the worker's end, which was picked when the head came.
    handle.open(request)
    t.same(told, [reason], 'never while it is opened')
    await eventually('one that came later', () => told.length === 2)
    t.same(told, [reason, reason])
  })
}
