/** Gathers the steps that a turn of the event loop asks for, and those that come while no more tasks may run, into few tasks. */
import type { ItemStep, StepValue } from './item-task.ts'
import { valueOf, type TaskOutcome } from './task-outcome.ts'

/** Steps in one task: bounds how long the first of them waits for the last. */
const MAX_BATCH = 8

/** Runs a task of several steps in a pool thread. */
export type RunSteps = (steps: readonly ItemStep[]) => Promise<readonly TaskOutcome<StepValue>[]>

interface Waiting {
  readonly step: ItemStep
  readonly resolve: (value: StepValue) => void
  readonly reject: (error: unknown) => void
}

/** See the file comment. */
export class StepQueue {
  readonly #run: RunSteps
  readonly #maxRunning: number
  readonly #waiting: Waiting[] = []
  #running = 0
  #isScheduled = false

  constructor(run: RunSteps, maxRunning: number) {
    this.#run = run
    this.#maxRunning = maxRunning
  }

  /** Rejects with what the step failed with, or the task. */
  do(step: ItemStep): Promise<StepValue> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ step, resolve, reject })
      if (this.#isScheduled || this.#running >= this.#maxRunning) return
      this.#isScheduled = true
      setImmediate(this.#flush)
    })
  }

  /** While all tasks that may run do, more steps gather: the busier the disk, the larger the batches. */
  readonly #flush = (): void => {
    this.#isScheduled = false
    while (this.#waiting.length > 0 && this.#running < this.#maxRunning) {
      this.#send(this.#waiting.splice(0, MAX_BATCH))
    }
  }

  #send(batch: readonly Waiting[]): void {
    this.#running++
    this.#run(batch.map(({ step }) => step)).then(
      (outcomes) => {
        this.#running--
        this.#flush()
        for (const [index, { resolve, reject }] of batch.entries()) {
          const outcome = outcomes[index]
          try {
            if (outcome === undefined) throw new Error('a step was not done')
            resolve(valueOf(outcome))
          } catch (error) {
            reject(error)
          }
        }
      },
      (error: unknown) => {
        this.#running--
        this.#flush()
        for (const { reject } of batch) reject(error)
      },
    )
  }
}
