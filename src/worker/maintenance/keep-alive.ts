/**
 * Tells the store, every few seconds, what this worker is working for: sessions with calls or uploads under way, so that whoever maintains, on whatever
 * replica, does not take them for idle, nor what they have begun for abandoned.
 */
import type { SessionKey } from '../../shared/state/records.ts'
import type { StateStore } from '../../shared/state/store.ts'

/** A session that is worked for. */
export interface BusySession {
  readonly key: SessionKey
  /** Leases of its calls here. */
  readonly callLeases: readonly string[]
}

/** How sessions are kept alive. */
export interface KeepAliveOptions {
  readonly store: Pick<StateStore, 'keepAlive'>
  /** In milliseconds; well below every lease and grace that it is to prevent from ending. */
  readonly intervalMs: number
  /** One session may be named more than once. */
  readonly busySessions: () => readonly BusySession[]
  /** The store failed; the next time comes. */
  readonly onError?: (error: unknown) => void
}

/** Sessions in one request. */
const BATCH = 256

/** One in every worker. */
export class KeepAlive {
  readonly #options: KeepAliveOptions
  #timer: NodeJS.Timeout | undefined
  #underWay: Promise<void> | undefined

  constructor(options: KeepAliveOptions) {
    this.#options = options
  }

  start(): void {
    this.#timer ??= setInterval(() => this.#beat(), this.#options.intervalMs).unref()
  }

  /** Waits for what is under way. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#underWay
  }

  /** A store that does not answer is not asked again meanwhile. */
  #beat(): void {
    this.#underWay ??= this.#keep()
      .catch((error: unknown) => this.#options.onError?.(error))
      .finally(() => (this.#underWay = undefined))
  }

  async #keep(): Promise<void> {
    const busy = merge(this.#options.busySessions())
    const batches: Promise<void>[] = []
    for (let start = 0; start < busy.length; start += BATCH) {
      batches.push(this.#options.store.keepAlive(busy.slice(start, start + BATCH)))
    }
    await Promise.all(batches)
  }
}

function merge(sessions: readonly BusySession[]): BusySession[] {
  const merged = new Map<string, BusySession>()
  for (const { key, callLeases } of sessions) {
    const name = `${key.serverId}\n${key.sessionId}`
    const known = merged.get(name)
    const { serverId, sessionId } = key
    merged.set(name, {
      key: { serverId, sessionId },
      callLeases: known === undefined ? callLeases : [...known.callLeases, ...callLeases],
    })
  }
  return [...merged.values()]
}
