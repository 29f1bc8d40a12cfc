/** The session's standalone stream (GET), for a legacy client, to whom it is part of the one stream that it has: opened again whenever it ends. */
import type { InnerEnd, InnerExchange, InnerListener } from './inner-exchange.ts'

/** Waits before it is opened again, in milliseconds; a stream that brought something starts over with the first. */
const REOPEN_AFTER_MS = [500, 1_000, 2_000, 5_000, 10_000, 30_000] as const
/** Openings without anything new before it is given up. */
const MAX_OPENINGS = 20

/** What a feed is made of. */
interface StandaloneFeedOptions {
  /** Makes the exchange of a GET, for what follows an event if one is named. It is not sent yet. */
  readonly exchange: (listener: InnerListener, lastEventId: string | undefined) => InnerExchange
  readonly send: (exchange: InnerExchange) => void
  /** Hands a message to the client; false asks for a pause. */
  readonly deliver: (data: Uint8Array) => boolean
  /** The session is gone. */
  readonly onLost: () => void
}

/** See the file comment. */
export class StandaloneFeed implements InnerListener {
  readonly #options: StandaloneFeedOptions
  #inner: InnerExchange | undefined
  #lastEventId: string | undefined
  #openings = 0
  #timer: NodeJS.Timeout | undefined
  #isOver = false

  constructor(options: StandaloneFeedOptions) {
    this.#options = options
  }

  /** Opens it. Once. */
  start(): void {
    this.#openings++
    this.#inner = this.#options.exchange(this, this.#lastEventId)
    this.#options.send(this.#inner)
  }

  /** After a pause that `deliver` asked for. */
  resume(): void {
    this.#inner?.resume()
  }

  /** Ends it; nothing more is told. */
  stop(): void {
    this.#isOver = true
    clearTimeout(this.#timer)
    this.#inner?.abort()
  }

  head(): void {}

  message(data: Uint8Array): boolean {
    this.#openings = 0
    return this.#options.deliver(data)
  }

  over(end: InnerEnd): void {
    if (this.#isOver) return
    this.#lastEventId = this.#inner?.lastEventId ?? this.#lastEventId
    if (end.kind === 'whole') {
      if (end.status === 404) {
        this.#isOver = true
        this.#options.onLost()
        return
      }
      // What can't be gone on with is begun anew, and an upstream that has no such stream is asked no more.
      if (end.status === 400 && this.#lastEventId !== undefined) this.#lastEventId = undefined
      else if (end.status < 500 && end.status !== 409 && end.status !== 429) return
    }
    if (this.#openings > MAX_OPENINGS) return
    const last = REOPEN_AFTER_MS.length - 1
    const waitMs = REOPEN_AFTER_MS[Math.min(Math.max(0, this.#openings - 1), last)]
    this.#timer = setTimeout(() => this.start(), waitMs)
    this.#timer.unref()
  }
}
