/** The load generator as the scenarios see it: a process of its own, so that making load never delays measuring it. */
import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'

import { stopper, track } from './child.ts'
import type { Order, Outcome, Report } from './traffic.ts'

const PROGRAM = fileURLToPath(new URL('./load-main.js', import.meta.url))
/** Longest time that any order may take, in milliseconds. */
const ORDER_LIMIT_MS = 120_000

/** One generator process; carries out one order at a time. */
export class LoadGenerator {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, (report: Report) => void>()
  #orders = 0
  /** Ends the process. */
  readonly stop: () => Promise<void>

  constructor() {
    this.#child = fork(PROGRAM, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
    track(this.#child)
    this.stop = stopper(this.#child)
    // The program sends nothing else.
    this.#child.on('message', (message) => this.#receive(message as Report))
    this.#child.once('exit', () => {
      for (const order of this.#waiting.keys()) {
        this.#receive({ order, error: 'the load generator ended' })
      }
    })
  }

  /** Carries out an order; rejects when it fails as a whole. */
  async run(order: Order): Promise<Outcome> {
    const number = this.#orders++
    const report = await new Promise<Report>((resolve) => {
      const limit = setTimeout(
        () => this.#receive({ order: number, error: `${order.kind} took too long` }),
        ORDER_LIMIT_MS,
      )
      this.#waiting.set(number, (answer) => {
        clearTimeout(limit)
        resolve(answer)
      })
      this.#child.send({ number, order })
    })
    if ('error' in report) throw new Error(`load generator: ${report.error}`)
    return report.outcome
  }

  #receive(report: Report): void {
    this.#waiting.get(report.order)?.(report)
    this.#waiting.delete(report.order)
  }
}
