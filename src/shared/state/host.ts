/**
 * Serves one store to other threads. With a local store all requests that arrived in one turn of the event loop share a transaction, and so a wait
 * for the disk; while that lasts the next batch gathers. With a shared store each request is under way by itself.
 */
import { receiveMessageOnPort } from 'node:worker_threads'
import type { MessagePort } from 'node:worker_threads'

import { StoreUnavailableError } from '../errors.ts'
import type { SessionKey } from './records.ts'
import type {
  BatchStore,
  ReplyMessage,
  RequestMessage,
  SharedStore,
  StoreAnswer,
  StoreNews,
  StoreRequest,
  WireAnswer,
} from './store-requests.ts'

/** Requests in one transaction: bounds how long the first of them waits for the last. */
const MAX_BATCH = 256

interface Waiting {
  readonly port: MessagePort
  readonly id: number
  readonly request: StoreRequest
}

/** The far end of each connected port is a `RemoteStore`. */
export class StoreHost {
  /** Ports and the names that their requests are performed under; a name is never used again. */
  readonly #ports = new Map<MessagePort, string>()
  readonly #replicaId: string
  /** The newest news of each lasting kind, for ports that come later. */
  readonly #standing = new Map<StoreNews['kind'], StoreNews>()
  readonly #underWay = new Set<Promise<void>>()
  #store: BatchStore | SharedStore
  #waiting: Waiting[] = []
  #scheduled = false
  #answers = new Map<MessagePort, WireAnswer[]>()
  #nextPort = 1
  #closed = false

  /** `replicaId` distinguishes the ports of this host from those of other processes. */
  constructor(store: BatchStore | SharedStore, replicaId = '') {
    this.#store = store
    this.#replicaId = replicaId
  }

  /** Serves a port until it closes. */
  connect(port: MessagePort): void {
    if (this.#closed) {
      port.close()
      return
    }
    this.#ports.set(port, `${this.#replicaId}:${this.#nextPort++}`)
    port.on('close', () => this.#ports.delete(port))
    // Only a RemoteStore posts to this port.
    port.on('message', (message: RequestMessage) => this.#enqueue(port, message))
    for (const news of this.#standing.values()) post(port, news)
  }

  /** Goes on with another store. What is under way with the present one ends there; closing that is the caller's business. */
  serve(store: BatchStore | SharedStore): void {
    this.#flush()
    this.#store = store
  }

  /** Tells all ports but the one that is named `except`. Lasting news are also told to ports that come later. */
  tell(news: StoreNews, except?: string): void {
    if (news.kind === 'untrusted' || news.kind === 'mode' || news.kind === 'replicas') {
      this.#standing.set(news.kind, news)
    }
    for (const [port, name] of this.#ports) {
      if (name !== except) post(port, news)
    }
  }

  /** Answers what was asked before, closes all ports, then the store. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    for (const port of this.#ports.keys()) this.#drain(port)
    this.#flush()
    await Promise.all(this.#underWay)
    this.#post()
    for (const port of this.#ports.keys()) port.close()
    await this.#store.close()
  }

  #enqueue(port: MessagePort, message: RequestMessage): void {
    if (this.#closed) return
    for (const [id, request] of message) this.#waiting.push({ port, id, request })
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#flush()
    })
  }

  /** Takes messages that were posted but not delivered yet. */
  #drain(port: MessagePort): void {
    for (;;) {
      // Typed any. Only a RemoteStore posts to this port.
      const received: { message: RequestMessage } | undefined = receiveMessageOnPort(port)
      if (received === undefined) return
      for (const [id, request] of received.message) this.#waiting.push({ port, id, request })
    }
  }

  #flush(): void {
    const waiting = this.#waiting
    this.#waiting = []
    const store = this.#store
    if (!('performAll' in store)) {
      for (const one of waiting) this.#start(store, one)
      return
    }
    for (let start = 0; start < waiting.length; start += MAX_BATCH) {
      this.#performAll(store, waiting.slice(start, start + MAX_BATCH))
    }
  }

  /** Sends a request to the shared store; its answer leaves with those that came in the same turn. */
  #start(store: SharedStore, { port, id, request }: Waiting): void {
    const done = store
      .perform(request, this.#ports.get(port) ?? '')
      .then(
        (value): StoreAnswer => ({ ok: true, value }),
        (error: unknown): StoreAnswer => ({ ok: false, error: toError(error) }),
      )
      .then((answer) => {
        this.#underWay.delete(done)
        this.#answer(port, toWire(id, answer))
      })
    this.#underWay.add(done)
  }

  #answer(port: MessagePort, answer: WireAnswer): void {
    if (this.#answers.size === 0) setImmediate(() => this.#post())
    const list = this.#answers.get(port)
    if (list === undefined) this.#answers.set(port, [answer])
    else list.push(answer)
  }

  #post(): void {
    const replies = this.#answers
    this.#answers = new Map()
    for (const [port, answers] of replies) post(port, { kind: 'answers', answers })
  }

  #performAll(store: BatchStore, batch: readonly Waiting[]): void {
    const { answers, invalidated } = store.performAll(batch.map(({ request }) => request))
    // First, so that nobody hears of an outcome before the copies that it makes stale were called back.
    this.#invalidate(
      invalidated.map(({ key, by }) => ({ key, knows: by === undefined ? by : batch[by]?.port })),
    )
    const replies = new Map<MessagePort, WireAnswer[]>()
    for (const [index, { port, id }] of batch.entries()) {
      const answer = answers[index] ?? NO_ANSWER
      const list = replies.get(port)
      if (list === undefined) replies.set(port, [toWire(id, answer)])
      else list.push(toWire(id, answer))
    }
    for (const [port, list] of replies) post(port, { kind: 'answers', answers: list })
  }

  #invalidate(
    changes: readonly { readonly key: SessionKey; readonly knows: MessagePort | undefined }[],
  ): void {
    if (changes.length === 0) return
    for (const port of this.#ports.keys()) {
      const keys = changes.filter(({ knows }) => knows !== port).map(({ key }) => key)
      if (keys.length > 0) post(port, { kind: 'invalidate', keys })
    }
  }
}

const NO_ANSWER: StoreAnswer = {
  ok: false,
  error: new StoreUnavailableError('the store did not answer'),
}

function toWire(id: number, answer: StoreAnswer): WireAnswer {
  if (answer.ok) return [id, true, answer.value]
  const { error } = answer
  return [
    id,
    false,
    { message: error.message, unavailable: error instanceof StoreUnavailableError },
  ]
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new StoreUnavailableError(String(error))
}

function post(port: MessagePort, message: ReplyMessage): void {
  port.postMessage(message)
}
