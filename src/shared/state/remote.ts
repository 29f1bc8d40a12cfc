/** A store that lives in another thread, behind a MessagePort whose far end is a `StoreHost`. */
import type { MessagePort } from 'node:worker_threads'

import { StoreUnavailableError } from '../errors.ts'
import { NumberMap } from '../number-map.ts'
import type { JsonObject, SessionKey } from './records.ts'
import { RequestStore } from './request-store.ts'
import { toRequest } from './store-requests.ts'
import type {
  ReplyMessage,
  StoreMode,
  StoreNews,
  StoreRequest,
  StoreValue,
  StoreVerb,
  WireAnswer,
} from './store-requests.ts'
import type { StateStore } from './store.ts'

/** How long a request may take before its caller is told that the store does not answer. */
const TIMEOUT_MS = 10_000

/** Requests that may wait for an answer; more are refused at once, so that a stuck store can't fill the memory. */
const MAX_PENDING = 65_536

interface Pending {
  readonly resolve: (value: unknown) => void
  readonly reject: (error: Error) => void
  readonly deadlineAtMs: number
}

/** A request and its answer, with the time between the two as its caller saw it. */
export interface AnsweredRequest {
  readonly request: StoreRequest
  readonly seconds: number
  readonly outcome:
    | { readonly ok: true; readonly value: unknown }
    | { readonly ok: false; readonly error: Error }
}

/** Requests of one turn of the event loop leave in one message. While there is no port every request is refused with `StoreUnavailableError`. */
export class RemoteStore extends RequestStore {
  readonly #timeoutMs: number
  readonly #onAnswered: ((answered: AnsweredRequest) => void) | undefined
  readonly #invalidateListeners: ((key: SessionKey) => void)[] = []
  readonly #announcementListeners: ((key: SessionKey, message: JsonObject) => void)[] = []
  readonly #offerListeners: ((key: SessionKey) => void)[] = []
  readonly #disconnectListeners: (() => void)[] = []
  readonly #lossListeners: ((ids: readonly string[]) => void)[] = []
  readonly #replicaListeners: (() => void)[] = []
  readonly #modeListeners: ((mode: StoreMode) => void)[] = []
  readonly #pending = new NumberMap<Pending>()
  #port: MessagePort | undefined
  #outbox: (readonly [id: number, request: StoreRequest])[] = []
  #nextId = 1
  #timer: NodeJS.Timeout | undefined
  #whenIdle: (() => void) | undefined
  #closing: Promise<void> | undefined
  #callsBack = true
  #mode: StoreMode = 'shared'
  #replicas: readonly string[] = []
  #hops: ReadonlyMap<string, string> = new Map()

  /** `onAnswered` hears of every request that was sent, before its caller does. */
  constructor(
    port: MessagePort,
    options: {
      readonly timeoutMs?: number
      readonly onAnswered?: ((answered: AnsweredRequest) => void) | undefined
    } = {},
  ) {
    super()
    this.#timeoutMs = options.timeoutMs ?? TIMEOUT_MS
    this.#onAnswered = options.onAnswered
    this.#attach(port)
  }

  /** Continues with another host, for example after the store's thread was started anew. Requests that wait for the old one are rejected. */
  reconnect(port: MessagePort): void {
    this.#detach()
    if (this.#closing === undefined) this.#attach(port)
    else port.close()
  }

  override onInvalidate(listener: (key: SessionKey) => void): void {
    this.#invalidateListeners.push(listener)
  }

  override onStreamOffered(listener: (key: SessionKey) => void): void {
    this.#offerListeners.push(listener)
  }

  override onAnnounced(listener: (key: SessionKey, message: JsonObject) => void): void {
    this.#announcementListeners.push(listener)
  }

  /**
   * Calls back when invalidations may have been missed, or will be from here on: no copy of any session must be trusted. Also called when they come
   * again, because of those that did not.
   */
  onDisconnect(listener: () => void): void {
    this.#disconnectListeners.push(listener)
  }

  /** Whether every change by somebody else is called out at present. While it is false a copy is only as good as it is young. */
  get callsBack(): boolean {
    return this.#port !== undefined && this.#callsBack
  }

  /** Calls back once for each replica that ended without a word, soon after it did. */
  onReplicasLost(listener: (ids: readonly string[]) => void): void {
    this.#lossListeners.push(listener)
  }

  /** The replicas that share the store at present, this one among them; empty when the store is not shared. */
  get replicas(): readonly string[] {
    return this.#replicas
  }

  /** Calls back when it changes which replicas share the store, or where they are reached. */
  onReplicasChange(listener: () => void): void {
    this.#replicaListeners.push(listener)
  }

  /** Where a replica can be reached by others; undefined when it does not say. */
  hopOf(replicaId: string): string | undefined {
    return this.#hops.get(replicaId)
  }

  /** Calls back when a memory of this process only takes the place of the shared store (`fallback_memory`), and when the shared one is back. */
  onModeChange(listener: (mode: StoreMode) => void): void {
    this.#modeListeners.push(listener)
  }

  get mode(): StoreMode {
    return this.#mode
  }

  /** Closes this end only; the store itself goes on. */
  override close(): Promise<void> {
    this.#closing ??= this.#finish()
    return this.#closing
  }

  protected override perform<V extends StoreVerb>(
    verb: V,
    args: Parameters<StateStore[V]>,
  ): Promise<StoreValue<V>> {
    return new Promise((resolve, reject) => {
      const refusal = this.#refusal()
      if (refusal !== undefined) {
        reject(new StoreUnavailableError(refusal))
        return
      }
      const id = this.#nextId++
      const deadlineAtMs = performance.now() + this.#timeoutMs
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the host answers each verb with its own value
      const settle = resolve as (value: unknown) => void
      const request = toRequest(verb, args)
      const pending = { resolve: settle, reject, deadlineAtMs }
      this.#pending.set(
        id,
        this.#onAnswered === undefined ? pending : this.#timed(request, pending),
      )
      if (this.#outbox.length === 0) setImmediate(this.#flush)
      this.#outbox.push([id, request])
      this.#timer ??= setTimeout(this.#expire, this.#timeoutMs)
    })
  }

  #timed(request: StoreRequest, { resolve, reject, deadlineAtMs }: Pending): Pending {
    const startedAtMs = performance.now()
    const tell = (outcome: AnsweredRequest['outcome']): void => {
      const seconds = (performance.now() - startedAtMs) / 1_000
      this.#onAnswered?.({ request, seconds, outcome })
    }
    return {
      deadlineAtMs,
      resolve: (value) => {
        tell({ ok: true, value })
        resolve(value)
      },
      reject: (error) => {
        tell({ ok: false, error })
        reject(error)
      },
    }
  }

  #refusal(): string | undefined {
    if (this.#closing !== undefined) return 'this end of the state store is closed'
    if (this.#port === undefined) return 'the state store is not connected'
    if (this.#pending.size >= MAX_PENDING) return 'too many requests wait for the state store'
    return undefined
  }

  #attach(port: MessagePort): void {
    this.#port = port
    // A host tells what differs from this right after the connection.
    this.#callsBack = true
    // Only a StoreHost posts to this port.
    port.on('message', (message: ReplyMessage) => this.#receive(message))
    port.on('close', () => {
      if (this.#port === port) this.#detach()
    })
  }

  #detach(): void {
    const port = this.#port
    if (port === undefined) return
    this.#port = undefined
    this.#outbox = []
    port.close()
    for (const [id] of this.#pending.entries()) this.#fail(id, 'the state store went away')
    for (const listener of this.#disconnectListeners) listener()
  }

  #receive(message: ReplyMessage): void {
    if (message.kind === 'answers') for (const answer of message.answers) this.#settle(answer)
    else this.#hear(message)
  }

  #hear(news: StoreNews): void {
    switch (news.kind) {
      case 'invalidate':
        for (const key of news.keys) {
          for (const listener of this.#invalidateListeners) listener(key)
        }
        return
      case 'offered':
        for (const key of news.keys) {
          for (const listener of this.#offerListeners) listener(key)
        }
        return
      case 'announced':
        for (const listener of this.#announcementListeners) listener(news.key, news.message)
        return
      case 'untrusted':
        this.#callsBack = news.callsBack
        for (const listener of this.#disconnectListeners) listener()
        return
      case 'mode':
        if (this.#mode === news.mode) return
        this.#mode = news.mode
        for (const listener of this.#modeListeners) listener(news.mode)
        return
      case 'replicas':
        this.#replicas = news.ids
        this.#hops = news.hops
        for (const listener of this.#replicaListeners) listener()
        return
      case 'replicas_lost':
        for (const listener of this.#lossListeners) listener(news.ids)
    }
  }

  #settle(answer: WireAnswer): void {
    const pending = this.#take(answer[0])
    if (pending === undefined) return // it timed out
    if (answer[1]) {
      pending.resolve(answer[2])
      return
    }
    const { message, unavailable } = answer[2]
    pending.reject(unavailable ? new StoreUnavailableError(message) : new Error(message))
  }

  #fail(id: number, reason: string): void {
    this.#take(id)?.reject(new StoreUnavailableError(reason))
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id)
    this.#pending.delete(id)
    if (this.#pending.size === 0) {
      clearTimeout(this.#timer)
      this.#timer = undefined
      this.#whenIdle?.()
    }
    return pending
  }

  readonly #flush = (): void => {
    const outbox = this.#outbox
    this.#outbox = []
    if (outbox.length > 0) this.#port?.postMessage(outbox)
  }

  readonly #expire = (): void => {
    this.#timer = undefined
    const nowMs = performance.now()
    let nextAtMs = Infinity
    for (const [id, { deadlineAtMs }] of this.#pending.entries()) {
      if (deadlineAtMs > nowMs) nextAtMs = Math.min(nextAtMs, deadlineAtMs)
      else this.#fail(id, `the state store did not answer within ${this.#timeoutMs} ms`)
    }
    if (nextAtMs < Infinity) this.#timer = setTimeout(this.#expire, nextAtMs - nowMs)
  }

  async #finish(): Promise<void> {
    if (this.#pending.size > 0) {
      await new Promise<void>((resolve) => {
        this.#whenIdle = resolve
      })
    }
    const port = this.#port
    this.#port = undefined
    port?.close()
  }
}
