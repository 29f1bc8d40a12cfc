/** Records that wait for export: sent in batches, one at a time, after a delay or when a batch is full. What does not fit, or can't be sent, is dropped and counted. */

import type { SignalCounts } from '../records.ts'

/** What a queue works with. */
export interface BatchQueueOptions<T> {
  readonly maxQueueSize: number
  readonly maxBatchSize: number
  readonly delayMs: number
  /** How long an export may take, whatever the exporter makes of it. */
  readonly timeoutMs: number
  /** Rejects when the batch was not taken. */
  readonly send: (batch: T[]) => Promise<void>
  /** Hears of the outcome when it is another than that of the batch before. */
  readonly onChange: (problem: string | undefined) => void
}

/** What a timer can wait for at most, in milliseconds. */
const MAX_TIMER_MS = 2_147_483_647

/** See the file comment. */
export class BatchQueue<T> {
  readonly #options: BatchQueueOptions<T>
  readonly #maxBatchSize: number
  #waiting: T[] = []
  #timer: NodeJS.Timeout | undefined
  #underWay: Promise<void> | undefined
  /** How many are in the batch that is under way. */
  #sending = 0
  #isFailing = false
  #isHurried = false
  readonly #counts = { exported: 0, queueFull: 0, exportFailed: 0, shutdown: 0 }

  constructor(options: BatchQueueOptions<T>) {
    this.#options = options
    this.#maxBatchSize = Math.min(options.maxBatchSize, options.maxQueueSize)
  }

  get counts(): SignalCounts {
    return { ...this.#counts }
  }

  /** Counts what did not fit before it came here. */
  noteDropped(count: number): void {
    this.#counts.queueFull += count
  }

  add(records: readonly T[]): void {
    const room = Math.max(0, this.#options.maxQueueSize - this.#waiting.length)
    this.#waiting.push(...records.slice(0, room))
    this.#counts.queueFull += Math.max(0, records.length - room)
    this.#next()
  }

  /** Sends what waits now, before its time, and what comes from here on: it may come on another port than the word to hasten, and so after it. */
  hasten(): void {
    this.#isHurried = true
    if (this.#waiting.length > 0) this.#underWay ??= this.#send()
  }

  /** Sends what waits, for `limitMs` at most; the rest is dropped. */
  async flush(limitMs: number): Promise<void> {
    const deadlineAtMs = Date.now() + limitMs
    let leftMs = limitMs
    while ((this.#waiting.length > 0 || this.#underWay !== undefined) && leftMs > 0) {
      this.#underWay ??= this.#send()
      await Promise.race([this.#underWay, elapsed(leftMs)])
      leftMs = deadlineAtMs - Date.now()
    }
    clearTimeout(this.#timer)
    this.#counts.shutdown += this.#waiting.length + this.#sending
    this.#waiting = []
    this.#sending = 0
  }

  #next(): void {
    if (this.#underWay !== undefined || this.#waiting.length === 0) return
    if (this.#waiting.length >= this.#maxBatchSize) {
      this.#underWay = this.#send()
      return
    }
    this.#timer ??= setTimeout(
      () => {
        this.#underWay ??= this.#send()
      },
      this.#isHurried ? 0 : Math.min(this.#options.delayMs, MAX_TIMER_MS),
    )
  }

  /** Never rejects. */
  async #send(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const batch = this.#waiting.splice(0, this.#maxBatchSize)
    this.#sending = batch.length
    const problem = await this.#problemOf(batch)
    // Given up meanwhile, and counted.
    if (this.#sending === 0) return
    this.#sending = 0
    this.#counts[problem === undefined ? 'exported' : 'exportFailed'] += batch.length
    const isFailing = problem !== undefined
    if (isFailing !== this.#isFailing) {
      this.#isFailing = isFailing
      this.#options.onChange(problem)
    }
    this.#underWay = undefined
    this.#next()
  }

  async #problemOf(batch: T[]): Promise<string | undefined> {
    const { timeoutMs } = this.#options
    // The exporter keeps to the limit, but for what its connection may do.
    const limit = elapsed(timeoutMs + 1_000).then(() => {
      throw new Error(`the export took longer than ${timeoutMs} ms`)
    })
    try {
      await Promise.race([this.#options.send(batch), limit])
      return undefined
    } catch (error) {
      return error instanceof Error ? error.message : String(error)
    }
  }
}

function elapsed(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, Math.min(ms, MAX_TIMER_MS)).unref()
  })
}
