/** Entry of the load generator process: carries out orders that come over its channel. */
import { saturate } from './autocannon.ts'
import { StreamHolder } from './stream-holder.ts'
import { pace } from './paced-client.ts'
import type { Order, Outcome, Report } from './traffic.ts'

const holder = new StreamHolder()

process.on('message', (message) => {
  // Only `LoadGenerator` talks to this process.
  const { number, order } = message as { number: number; order: Order }
  carryOut(order).then(
    (outcome) => reply({ order: number, outcome }),
    (error: unknown) => reply({ order: number, error: String(error) }),
  )
})
process.once('disconnect', () => process.exit(0))

function reply(report: Report): void {
  process.send?.(report)
}

function carryOut(order: Order): Promise<Outcome> {
  switch (order.kind) {
    case 'saturate':
      return saturate(order.traffic)
    case 'pace':
      return pace(order.traffic, order.perSecond)
    case 'hold':
      return holder.hold(order.traffic)
    case 'release':
      return Promise.resolve(holder.release())
  }
}
