/**
 * Hears what is published: changes of sessions, and this replica's own beats, which prove that messages arrive. Says at once when they may not any
 * more, and connects again for ever.
 */
import type { Redis } from 'ioredis'

import { backoff } from './connection.ts'

/** Without a beat for this long messages are not arriving, whatever the connection looks like. In milliseconds; beats come every 500. */
const SILENCE_LIMIT_MS = 2_000

/** What a feed works with. */
export interface ChangeFeedParts {
  /** Opens a connection that is not opened again when it ends. `attempt` grows. */
  readonly connect: (attempt: number) => Redis
  /** Where changes are published. */
  readonly changes: string
  /** Where this replica's beats are published; also what tells others that it is there. */
  readonly beats: string
  /** Hears what is published on `changes`. */
  readonly onMessage: (message: string) => void
  /** True when the subscription is confirmed, false when messages may be missed from here on. Alternates. */
  readonly onFlow: (flows: boolean) => void
  /** Hears why a connection failed. */
  readonly onError: (error: Error) => void
}

/** See the file comment. */
export class ChangeFeed {
  readonly #parts: ChangeFeedParts
  #connection: Redis | undefined
  #flows = false
  #attempt = 0
  #failures = 0
  #retry: NodeJS.Timeout | undefined
  #watchdog: NodeJS.Timeout | undefined
  #lastBeatAtMs = 0
  #generation = 0
  #stopped = false

  constructor(parts: ChangeFeedParts) {
    this.#parts = parts
  }

  /** Whether every message arrives, as far as can be known. */
  get flows(): boolean {
    return this.#flows
  }

  /** Grows with each subscription: what was seen through an earlier one says nothing about now. */
  get generation(): number {
    return this.#generation
  }

  start(): void {
    const connection = this.#parts.connect(this.#attempt++)
    this.#connection = connection
    connection.on('error', this.#parts.onError)
    connection.on('message', (channel: string, message: string) => {
      if (channel === this.#parts.changes) this.#parts.onMessage(message)
      else this.#lastBeatAtMs = performance.now()
    })
    connection.once('ready', () => {
      connection.subscribe(this.#parts.changes, this.#parts.beats).then(
        () => this.#subscribed(connection),
        (error: Error) => {
          this.#parts.onError(error)
          connection.disconnect()
        },
      )
    })
    connection.once('end', () => this.#ended(connection))
  }

  /** Gives the present connection up and makes another one. */
  reconnect(): void {
    this.#connection?.disconnect()
    this.#broke()
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#retry)
    clearInterval(this.#watchdog)
    this.#connection?.disconnect()
  }

  #subscribed(connection: Redis): void {
    if (this.#connection !== connection || this.#stopped) return
    this.#failures = 0
    this.#generation++
    this.#flows = true
    this.#lastBeatAtMs = performance.now()
    this.#watchdog = setInterval(() => {
      if (performance.now() - this.#lastBeatAtMs > SILENCE_LIMIT_MS) this.reconnect()
    }, SILENCE_LIMIT_MS / 4)
    this.#parts.onFlow(true)
  }

  #broke(): void {
    clearInterval(this.#watchdog)
    if (!this.#flows) return
    this.#flows = false
    this.#parts.onFlow(false)
  }

  #ended(connection: Redis): void {
    if (this.#connection !== connection) return
    this.#connection = undefined
    const wasSubscribed = this.#failures === 0
    this.#broke()
    if (this.#stopped) return
    this.#failures++
    // At once when the connection had worked: others take a replica that is not subscribed for dead.
    this.#retry = setTimeout(() => this.start(), wasSubscribed ? 0 : backoff(this.#failures))
  }
}
