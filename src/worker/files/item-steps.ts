/** The owner's side of item steps: what a turn of the event loop asks for leaves as few tasks, because each costs about as much as the step itself. */
import { pathComponent, type FileLayout } from '../../shared/files/layout.ts'
import type { FileRef } from '../../shared/state/records.ts'
import type { ItemStep, KeptFile, StepKind, StepValue } from './item-task.ts'
import type { Copied, CopyOrder } from './copy-task.ts'
import { valueOf, type TaskOutcome } from './task-outcome.ts'

/** Steps in one task: bounds how long the first of them waits for the last. */
const MAX_BATCH = 8

/** Tasks that run at a time; each has a thread of the pool for itself while it works. */
const MAX_RUNNING = 2

/** Runs a task of several steps in a pool thread. */
export type RunSteps = (steps: readonly ItemStep[]) => Promise<readonly TaskOutcome<StepValue>[]>

/** Does a step of kind `keep` for a file of any size, as a task of its own. */
export type KeepLarge = (step: ItemStep) => Promise<KeptFile | null>

/** Copies a file into an item, as a task of its own. */
export type CopyInto = (order: CopyOrder) => Promise<Copied>

interface Waiting {
  readonly step: ItemStep
  readonly resolve: (value: StepValue) => void
  readonly reject: (error: unknown) => void
}

/** See the file comment. Rejects with `UnsafePathError`, `PoolTaskError`, or what the pool fails with. */
export class ItemSteps {
  readonly #run: RunSteps
  readonly #keepLarge: KeepLarge
  readonly #copy: CopyInto
  #waiting: Waiting[] = []
  #running = 0
  #isScheduled = false

  constructor(tasks: {
    readonly run: RunSteps
    readonly keepLarge: KeepLarge
    readonly copy: CopyInto
  }) {
    this.#run = tasks.run
    this.#keepLarge = tasks.keepLarge
    this.#copy = tasks.copy
  }

  /** Makes an item's directory and answers its path. It is not durable before something in it is kept. */
  async create(files: FileLayout, ref: FileRef): Promise<string> {
    const step = stepOf('create', files, ref)
    await this.#step(step)
    return step[3]
  }

  /** Resolves when the item's file is there, regular and in its place. */
  async check(files: FileLayout, ref: FileRef, filename: string): Promise<void> {
    await this.#step(stepOf('check', files, ref, filename))
  }

  /**
   * Keeps the file that a tool wrote into an item's directory under `filename`, or under a name of its own: hashed, named by its type where it has no
   * extension, and durable when writes are atomic. Undefined when there is none.
   */
  async keep(files: FileLayout, ref: FileRef, filename: string): Promise<KeptFile | undefined> {
    const step = stepOf('keep', files, ref, filename)
    const kept = await this.#step(step)
    return (kept === 'large' ? await this.#keepLarge(step) : kept) ?? undefined
  }

  /**
   * Brings a file from elsewhere into an item, durable when writes are atomic; whole, or nothing. `source` is bytes or the descriptor of a regular
   * file, which is read from its start without moving its position and stays the caller's. `maxBytes` null means no limit.
   */
  async copy(
    files: FileLayout,
    to: { readonly ref: FileRef; readonly filename: string },
    source: number | Uint8Array,
    maxBytes: number | null,
  ): Promise<Copied> {
    const { root, atomicWrites } = files
    const directory = files.itemDir(to.ref)
    const filename = pathComponent(to.filename)
    return this.#copy({ source, root, atomicWrites, directory, filename, maxBytes })
  }

  #step(step: ItemStep): Promise<StepValue> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ step, resolve, reject })
      if (this.#isScheduled || this.#running >= MAX_RUNNING) return
      this.#isScheduled = true
      setImmediate(this.#flush)
    })
  }

  /** While all tasks that may run do, more steps gather: the busier the disk, the larger the batches. */
  readonly #flush = (): void => {
    this.#isScheduled = false
    while (this.#waiting.length > 0 && this.#running < MAX_RUNNING) {
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

function stepOf(kind: StepKind, files: FileLayout, ref: FileRef, filename?: string): ItemStep {
  const name = filename === undefined ? '' : pathComponent(filename)
  return [kind, files.root, files.atomicWrites, files.itemDir(ref), name]
}
