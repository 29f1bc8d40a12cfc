/**
 * The threads that hash, write and copy files, so that no session's event loop ever touches file bytes. Threads come with the first task and go
 * when there was none for a while. Those for bulk (bodies, large files) have a lower priority than all others; the steps of calls have threads of their
 * own, so that none of them waits behind somebody's gigabyte.
 */
import { Piscina } from 'piscina'
import { fileURLToPath } from 'node:url'
import type { MessagePort } from 'node:worker_threads'

import { BodyReceiver, type GrantRoom } from './body-receiver.ts'
import type { Copied } from './copy-task.ts'
import { ItemSteps } from './item-steps.ts'
import type { KeptFile } from './item-task.ts'
import type { Received, ReceiveOrder } from './receive-body.ts'
import type { FileDigest } from './pump.ts'
import { PoolTaskError, valueOf, type TaskOutcome } from './task-outcome.ts'
import type { Tree, TreeChanges, TreeOrder } from './tree-task.ts'

/** See the file comment. Errors of the file system reject with their `code` kept. */
export interface DigestPool {
  /** The steps that a call takes on the disk. */
  readonly items: ItemSteps
  /** Starts to receive a request body into the file store; the receiver's comments say the rest. */
  receive(order: ReceiveOrder, grant: GrantRoom): BodyReceiver
  /** Hashes a regular file: a path (links are not followed), or an open descriptor, read from its start without moving its position. */
  digestFile(source: string | number): Promise<FileDigest>
  /** Lists the files of a directory that an upstream writes to. */
  listTree(order: TreeOrder): Promise<Tree>
  /** What has changed in it since `before` was its `Tree.versions`. */
  changesIn(order: TreeOrder, before: string): Promise<TreeChanges>
  /** Refuses new work, waits up to 30 s for what was taken, then ends the threads. Idempotent. */
  close(): Promise<void>
}

/** Of each kind. */
const MAX_THREADS = 2
/** A slow upload is a task that mostly waits: many share a thread. More than all of these wait in a queue, their clients paused. */
const TASKS_PER_THREAD = 512
/** A thread costs about 80 ms to start, which the next call that touches a file would have to wait for. */
const IDLE_TIMEOUT_MS = 300_000
const CLOSE_PATIENCE_MS = 30_000
/** From this many tasks on the first thread, the second is started. */
const SPREAD_AT_TASKS = 2

/** Opens the pool; starts no thread yet. */
export function openDigestPool(): DigestPool {
  return new PiscinaPool()
}

/** The compiled names: these are not imports that the compiler would rewrite. As paths, because the pool would make one of a URL for each task. */
const DIGEST_TASK = pathOf('./digest-task.js')
const ITEM_TASK = pathOf('./item-task.js')
const COPY_TASK = pathOf('./copy-task.js')
const TREE_TASK = pathOf('./tree-task.js')

/** A function of one of these files. */
interface Task {
  readonly filename: string
  readonly name: string
}

const RECEIVE: Task = { filename: DIGEST_TASK, name: 'receive' }
const DIGEST: Task = { filename: DIGEST_TASK, name: 'digest' }
const RUN_STEPS: Task = { filename: ITEM_TASK, name: 'runSteps' }
const KEEP_LARGE: Task = { filename: ITEM_TASK, name: 'keepLarge' }
const COPY: Task = { filename: COPY_TASK, name: 'copy' }
const LIST_TREE: Task = { filename: TREE_TASK, name: 'listTree' }
const CHANGES_IN: Task = { filename: TREE_TASK, name: 'changesIn' }

type Job = readonly [threads: Piscina, task: Task, order: unknown, transferList?: MessagePort[]]

class PiscinaPool implements DigestPool {
  readonly #bulk = openThreads(DIGEST_TASK)
  readonly #steps = openThreads(ITEM_TASK)
  readonly items = new ItemSteps({
    run: (steps) => this.#run(this.#steps, RUN_STEPS, steps),
    keepLarge: (step) => this.#settle<KeptFile | null>(this.#bulk, KEEP_LARGE, step),
    copy: (order) => this.#settle<Copied>(this.#bulk, COPY, order),
  })
  readonly #running = new Set<Promise<unknown>>()
  #closed: Promise<void> | undefined

  receive(order: ReceiveOrder, grant: GrantRoom): BodyReceiver {
    const run = (port: MessagePort) =>
      this.#settle<Received>(this.#bulk, RECEIVE, { order, port }, [port])
    return new BodyReceiver(run, grant)
  }

  digestFile(source: string | number): Promise<FileDigest> {
    return this.#settle<FileDigest>(this.#bulk, DIGEST, source)
  }

  listTree(order: TreeOrder): Promise<Tree> {
    return this.#settle<Tree>(this.#steps, LIST_TREE, order)
  }

  changesIn(order: TreeOrder, before: string): Promise<TreeChanges> {
    return this.#settle<TreeChanges>(this.#steps, CHANGES_IN, { order, before })
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  /** The pool's own `close` would fail tasks that wait for a thread to start. */
  async #close(): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const patience = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, CLOSE_PATIENCE_MS)
    })
    await Promise.race([Promise.allSettled(this.#running), patience])
    clearTimeout(timer)
    await Promise.all([this.#bulk.destroy(), this.#steps.destroy()])
  }

  /** `T` is what the task comes to. */
  async #settle<T>(...job: Job): Promise<T> {
    return valueOf(await this.#run<TaskOutcome<T>>(...job))
  }

  /** `T` is what the task's function answers. */
  async #run<T>(...[threads, task, order, transferList = []]: Job): Promise<T> {
    if (this.#closed !== undefined) throw new PoolTaskError('the pool is closed', undefined)
    const running: Promise<T> = threads.run(order, { ...task, transferList })
    this.#running.add(running)
    return running.finally(() => this.#running.delete(running))
  }
}

/** `filename` is loaded in each thread before its first task. */
function openThreads(filename: string): Piscina {
  return new Piscina({
    filename,
    minThreads: 0,
    maxThreads: MAX_THREADS,
    concurrentTasksPerWorker: TASKS_PER_THREAD,
    idleTimeout: IDLE_TIMEOUT_MS,
    // With atomics an idle thread would block in a wait that timers and ports can't interrupt.
    atomics: 'disabled',
    recordTiming: false,
    loadBalancer: (_task, workers) => {
      const [least] = workers.toSorted((a, b) => a.currentUsage - b.currentUsage)
      if (least === undefined || least.currentUsage >= TASKS_PER_THREAD) return null
      // Null makes the pool start a thread; the task waits for it.
      return least.currentUsage >= SPREAD_AT_TASKS && workers.length < MAX_THREADS ? null : least
    },
  })
}

function pathOf(file: string): string {
  return fileURLToPath(new URL(file, import.meta.url))
}
