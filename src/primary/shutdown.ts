/** The stop of a replica, in an order in which nobody loses a request: others are told first, what runs is finished, and idle connections go last. */
import { setTimeout as delay } from 'node:timers/promises'

import type { Log } from '../shared/log.ts'
import type { Listener } from './listener/server.ts'

/** What threads get to end by themselves when no request is left, in milliseconds: for what they still have to write down. */
const LAST_WORDS_MS = 2_000

/**
 * Where there are other replicas, connections are closed only when nothing has come for this long, in milliseconds: clients whose streams end come
 * back at once, and over connections that they have kept.
 */
const QUIET_MS = 1_000

/** What is stopped, and how long it may take. */
export interface ShutdownParts {
  readonly listener: Pick<Listener, 'drain' | 'stopListening' | 'idle' | 'inFlight' | 'close'>
  /** How long connections are still taken, in milliseconds. */
  readonly preDrainMs: number
  /** What requests in hand get after that, in milliseconds. */
  readonly graceMs: number
  /** Has long-lived streams closed, which would hold the stop up. */
  readonly closeStreams: () => void
  /** Cuts what a thread has in hand after `graceMs`, and ends all threads. */
  readonly endThreads: (graceMs: number) => Promise<void>
  readonly log: Log
}

/** See the file comment. */
export class Shutdown {
  readonly #parts: ShutdownParts
  readonly #hurry = new AbortController()
  readonly #hurried: Promise<void>
  #done: Promise<void> | undefined

  constructor(parts: ShutdownParts) {
    this.#parts = parts
    const { signal } = this.#hurry
    this.#hurried = new Promise((resolve) => {
      signal.addEventListener('abort', () => resolve(), { once: true })
    })
  }

  get hasBegun(): boolean {
    return this.#done !== undefined
  }

  /** Resolves when everything has ended. All callers share one stop. */
  run(): Promise<void> {
    this.#done ??= this.#run()
    return this.#done
  }

  /** Waits no more, for load balancers or for requests. */
  hurry(): void {
    this.#hurry.abort()
  }

  async #run(): Promise<void> {
    const { listener, preDrainMs, graceMs, closeStreams, endThreads, log } = this.#parts
    // Whoever asks `/readyz` hears of the stop from here on; until load balancers have heard, they send requests, which are served.
    listener.drain()
    await delay(preDrainMs, undefined, { signal: this.#hurry.signal }).catch(() => undefined)
    listener.stopListening()
    // Not before: their clients come back at once, and must not come back to us.
    closeStreams()
    await Promise.race([listener.idle(graceMs, preDrainMs > 0 ? QUIET_MS : 0), this.#hurried])
    const { inFlight } = listener
    if (inFlight === 0) {
      // In the turn in which nothing was in hand: a request that comes later finds the connection closed, and its client knows that it was not begun.
      listener.close()
    } else log.warn({ requests: inFlight }, 'requests did not end in time and are cut')
    await endThreads(inFlight === 0 ? LAST_WORDS_MS : 0)
    listener.close()
  }
}
