/** What waits for the collector: bounded, sent one batch after the other. Nobody waits for it but the end of the process, and that for a while only. */

/** A part of what is known, in the form that the exporter takes. */
export interface Batch<T> {
  readonly content: T
  /** Data points in it. */
  readonly points: number
}

/** How a queue works. */
export interface ExportQueueOptions<T> {
  readonly maxPoints: number
  readonly dropsWhenFull: boolean
  /** Rejects when the collector did not take it. Settles within the time limit of a request. */
  readonly send: (content: T) => Promise<void>
  readonly onSent: () => void
  readonly onFailed: (error: unknown, points: number) => void
  readonly onDropped: (points: number, reason: 'queue_full' | 'shutdown') => void
}

/** See the file comment. */
export class ExportQueue<T> {
  readonly #options: ExportQueueOptions<T>
  #waiting: Batch<T>[] = []
  #points = 0
  #sending: Promise<void> | undefined

  constructor(options: ExportQueueOptions<T>) {
    this.#options = options
  }

  /** Data points that wait, those under way among them. */
  get points(): number {
    return this.#points
  }

  /** Whether more may be offered: with `dropsWhenFull` always, else when nothing waits or so many more have room. */
  hasRoomFor(points: number): boolean {
    const { dropsWhenFull, maxPoints } = this.#options
    return dropsWhenFull || this.#points === 0 || this.#points + points <= maxPoints
  }

  /** Takes batches to be sent. What is oldest goes when there are too many: a later total says more than an earlier one. */
  offer(batches: readonly Batch<T>[]): void {
    const { maxPoints, dropsWhenFull, onDropped } = this.#options
    this.#waiting.push(...batches)
    for (const { points } of batches) this.#points += points
    let dropped = 0
    const most = dropsWhenFull ? maxPoints : Number.POSITIVE_INFINITY
    while (this.#points > most && this.#waiting.length > 1) {
      const oldest = this.#waiting.shift()
      dropped += oldest?.points ?? 0
      this.#points -= oldest?.points ?? 0
    }
    if (dropped > 0) onDropped(dropped, 'queue_full')
    this.#sending ??= this.#sendAll().finally(() => (this.#sending = undefined))
  }

  /** Resolves when all is sent, or after `limitMs`; what is left then is dropped. */
  async drain(limitMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const limit = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, limitMs)
    })
    await Promise.race([this.#sending, limit])
    clearTimeout(timer)
    const left = this.#points
    this.#waiting = []
    if (left > 0) this.#options.onDropped(left, 'shutdown')
  }

  async #sendAll(): Promise<void> {
    const { send, onSent, onFailed } = this.#options
    for (let batch = this.#waiting.shift(); batch !== undefined; batch = this.#waiting.shift()) {
      try {
        // One after the other: a collector that is slow must not be sent ever more at a time.
        await send(batch.content)
        onSent()
      } catch (error) {
        onFailed(error, batch.points)
      }
      this.#points -= batch.points
    }
  }
}
