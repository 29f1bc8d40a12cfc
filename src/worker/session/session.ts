/** A session that this worker owns, while it is in use: the record, what runs in it, and who listens. */
import type { CallPlaces } from './call-places.ts'
import type { JsonObject, SessionKey, SessionRecord } from '../../shared/state/records.ts'
import type { KnownAnswers } from '../exchange/known-answers.ts'

/** Takes what equal answers are to be rewritten to. */
export type KeepAnswer = (rewritten: JsonObject, memo: unknown) => void

/** A response that an adapter still has to look at, by the JSON-RPC id of its request. */
export interface PendingRewrite {
  /** Where what was made of equal answers is kept, for a rewrite that depends on nothing else and holds nothing: it may never be asked. */
  readonly known?: KnownAnswers
  /** Whether what is known is right for whoever waits here too, by what was noted with it; absent where it always is. */
  readonly admits?: (memo: unknown) => boolean | Promise<boolean>
  /** Whether an answer that can not be looked at must not be passed on. */
  readonly isRequired?: boolean
  /**
   * Answers the message to send in its place. With `keep` it may say what equal answers can be rewritten to from now on, with what `admits` is to be
   * given; that need not be what it answers.
   */
  rewrite(message: JsonObject, keep?: KeepAnswer): Promise<JsonObject>
  /** No response will come. */
  abandon(): void
}

/** A standalone stream of the client's on which the adapter may send notifications of its own. */
export interface NotificationSink {
  /** `message` is a whole JSON-RPC notification. */
  notify(message: JsonObject): void
}

/** Responses of interrupted streams that may still arrive on a resumed one, per session. */
const MAX_SUSPENDED = 64

/** See the file comment. Mutable, owned by one event loop. */
export class Session {
  readonly key: SessionKey
  /** Whose it is. */
  readonly principal: string
  record: SessionRecord
  /** Unix milliseconds. */
  lastUsedAtMs: number
  /** When the store was asked the question whose answer was this record, on the clock of `performance.now()`. */
  confirmedAtMs: number
  /** Its places among those that the store counts over all replicas, where it does. */
  places: CallPlaces | undefined
  /** JSON-RPC requests under way. */
  inFlight = 0
  /** Streams open, of any kind. */
  streams = 0
  /** The client's standalone streams. */
  readonly sinks = new Set<NotificationSink>()
  /** Set while a lost upstream session is being initialised again: everyone waits for one outcome. */
  reinitialising: Promise<boolean> | undefined
  /** Whether the upstream session is another than the one that the client initialised: event ids from before mean nothing to it. */
  hasNewUpstream = false
  /** Whether its client may have been shown tools: false from its `initialize` to its first list. */
  hasListedTools = true
  /** How its tools differ from what is pinned, as the store has it; see `StateStore.noteDrift`. */
  drift: string | null = null
  /** Whether the record has to be read again before the next use: another party may have changed it. */
  isStale = false
  readonly #suspended = new Map<string, PendingRewrite>()

  constructor(record: SessionRecord, principal: string, nowMs: number, confirmedAtMs: number) {
    this.principal = principal
    this.key = { serverId: record.serverId, sessionId: record.sessionId }
    this.record = record
    this.lastUsedAtMs = nowMs
    this.confirmedAtMs = confirmedAtMs
  }

  get isBusy(): boolean {
    return this.inFlight > 0 || this.streams > 0 || this.reinitialising !== undefined
  }

  /** Keeps a rewrite for a response that may come on a resumed stream (Last-Event-ID). The oldest is given up when there are too many. */
  suspend(id: string, rewrite: PendingRewrite): void {
    this.#suspended.get(id)?.abandon()
    this.#suspended.set(id, rewrite)
    if (this.#suspended.size <= MAX_SUSPENDED) return
    const [oldest] = this.#suspended.keys()
    if (oldest === undefined) return
    this.#suspended.get(oldest)?.abandon()
    this.#suspended.delete(oldest)
  }

  get hasSuspended(): boolean {
    return this.#suspended.size > 0
  }

  takeSuspended(id: string): PendingRewrite | undefined {
    const rewrite = this.#suspended.get(id)
    this.#suspended.delete(id)
    return rewrite
  }

  notify(message: JsonObject): void {
    for (const sink of this.sinks) sink.notify(message)
  }

  /** Gives up everything that waits. */
  end(): void {
    this.places?.end()
    for (const rewrite of this.#suspended.values()) rewrite.abandon()
    this.#suspended.clear()
  }
}
