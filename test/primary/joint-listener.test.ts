/** The stop of a replica that others ask for what is bound to its connections. */
import t from 'tap'

import { JointListener } from '../../src/primary/listener/joint-listener.ts'
import { eventually, within } from '../support/eventually.ts'

/** Something that has requests in hand; `finish` ends the next wait for none. */
function listener(inFlight = 0) {
  const waits: (() => void)[] = []
  return {
    inFlight,
    waits,
    drain: () => {},
    stopListening: () => {},
    close: () => {},
    idle: () => new Promise<void>((resolve) => waits.push(resolve)),
    finish() {
      this.inFlight = 0
      waits.shift()?.()
    },
  }
}

t.test(
  'what comes from other replicas while clients are waited for is finished, too',
  async (t) => {
    const clients = listener(1)
    const hop = listener()
    let isIdle = false
    const idle = new JointListener(clients, hop).idle(60_000, 0).then(() => {
      isIdle = true
    })
    await eventually('the hop is waited for', () => hop.waits.length === 1)
    hop.finish()
    await eventually('the clients are waited for', () => clients.waits.length === 1)
    hop.inFlight = 1
    clients.finish()
    await eventually('the hop is waited for again', () => hop.waits.length === 1)
    t.notOk(isIdle)
    hop.finish()
    await eventually(
      'and the clients, in whose turn connections are closed',
      () => clients.waits.length === 1,
    )
    clients.finish()
    await within('it is idle', idle)
  },
)

t.test('the wait ends with its time, whatever is still in hand', async (t) => {
  const clients = { ...listener(1), idle: () => Promise.resolve() }
  const hop = { ...listener(1), idle: () => Promise.resolve() }
  await within('the end', new JointListener(clients, hop).idle(0, 0))
  t.pass('it ended')
})
