/**
 * Serves one store to other threads. All requests that arrived in one turn of the event loop share a transaction, and so a wait for the disk; while
 * that lasts the next batch gathers.
 */
import { receiveMessageOnPort } from 'node:worker_threads'
import type { MessagePort } from 'node:worker_threads'

import { StoreUnavailableError } from '../errors.ts'
import type { SessionKey } from './records.ts'
import type {
  GroupStore,
  ReplyMessage,
  RequestMessage,
  StoreAnswer,
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
  readonly #store: GroupStore
  readonly #ports = new Set<MessagePort>()
  #waiting: Waiting[] = []
  #scheduled = false
  #closed = false

  constructor(store: GroupStore) {
    this.#store = store
  }

  /** Serves a port until it closes. */
  connect(port: MessagePort): void {
    if (this.#closed) {
      port.close()
      return
    }
    this.#ports.add(port)
    port.on('close', () => this.#ports.delete(port))
    // Only a RemoteStore posts to this port.
    port.on('message', (message: RequestMessage) => this.#enqueue(port, message))
  }

  /** Answers what was asked before, closes all ports, then the store. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    for (const port of this.#ports) this.#drain(port)
    this.#flush()
    for (const port of this.#ports) port.close()
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
    for (let start = 0; start < waiting.length; start += MAX_BATCH) {
      this.#perform(waiting.slice(start, start + MAX_BATCH))
    }
  }

  #perform(batch: readonly Waiting[]): void {
    const { answers, invalidated } = this.#store.performAll(batch.map(({ request }) => request))
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
    for (const port of this.#ports) {
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

function post(port: MessagePort, message: ReplyMessage): void {
  port.postMessage(message)
}
