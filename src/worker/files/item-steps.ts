/** The owner's side of item steps. Each goes to a pool thread with others, because a task costs about as much as a step. */
import { pathComponent, type FileLayout } from '../../shared/files/layout.ts'
import type { FileRef } from '../../shared/state/records.ts'
import type { Copied, CopyOrder } from './copy-task.ts'
import type { ItemStep, KeptFile, StepKind } from './item-task.ts'
import { StepQueue, type RunSteps } from './step-queue.ts'

/** Tasks of quick steps that run at a time; each has a thread of the pool for itself. */
const MAX_QUICK = 2
/** Tasks that wait for the disk at a time, mostly without a thread. */
const MAX_KEEPING = 4

/** Does a step of kind `keep` for a file of any size, as a task of its own. */
export type KeepLarge = (step: ItemStep) => Promise<KeptFile | null>

/** Copies a file into an item, as a task of its own. */
export type CopyInto = (order: CopyOrder) => Promise<Copied>

/** See the file comment. Rejects with `UnsafePathError`, `PoolTaskError`, or what the pool fails with. */
export class ItemSteps {
  readonly #quick: StepQueue
  /** On their own: nobody who wants a directory should wait for other people's syncs. */
  readonly #keeping: StepQueue
  readonly #keepLarge: KeepLarge
  readonly #copy: CopyInto

  constructor(tasks: {
    readonly run: RunSteps
    readonly keepLarge: KeepLarge
    readonly copy: CopyInto
  }) {
    this.#quick = new StepQueue(tasks.run, MAX_QUICK)
    this.#keeping = new StepQueue(tasks.run, MAX_KEEPING)
    this.#keepLarge = tasks.keepLarge
    this.#copy = tasks.copy
  }

  /** Makes an item's directory and answers its path. It is not durable before something in it is kept. */
  async create(files: FileLayout, ref: FileRef): Promise<string> {
    const step = stepOf('create', files, ref)
    await this.#quick.do(step)
    return step[3]
  }

  /** Resolves when the item's file is there, regular and in its place. */
  async check(files: FileLayout, ref: FileRef, filename: string): Promise<void> {
    await this.#quick.do(stepOf('check', files, ref, filename))
  }

  /**
   * Keeps the file that a tool wrote into an item's directory under `filename`, or under a name of its own: hashed, named by its type where it has no
   * extension, and durable when writes are atomic. Undefined when there is none.
   */
  async keep(files: FileLayout, ref: FileRef, filename: string): Promise<KeptFile | undefined> {
    const step = stepOf('keep', files, ref, filename)
    const kept = await this.#keeping.do(step)
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
}

function stepOf(kind: StepKind, files: FileLayout, ref: FileRef, filename?: string): ItemStep {
  const name = filename === undefined ? '' : pathComponent(filename)
  return [kind, files.root, files.atomicWrites, files.itemDir(ref), name]
}
