/** One upstream session that is a connection: its calls, its standalone stream, and whose each message of the upstream is. */
import { AdapterError } from '../../../shared/errors.ts'
import type { HeaderList } from '../../../shared/frames/frames.ts'
import { toAdapterError } from '../../exchange/adapter-error.ts'
import { findByResponseId, idKey } from '../../exchange/json-rpc.ts'
import type { Envelope, Message } from '../../exchange/json-rpc.ts'
import type { BoundAnswer } from './bound-answer.ts'
import { CallTable } from './call-table.ts'
import type { BoundCall } from './call-table.ts'
import type { MessageConnection, MessageListener, MessageTransport } from './message-connection.ts'
import { StandaloneOutlet } from './standalone-outlet.ts'
import { onOneLine, readMessages } from './upstream-message.ts'
import type { UpstreamMessage } from './upstream-message.ts'

type Request = Extract<Message, { kind: 'request' }>

/** A call without a message for so long gets the head of a stream: clients give up on answers whose head does not come. In milliseconds. */
const STREAM_AFTER_MS = 10_000
/** A cancelled request is answered by most servers with nothing; its answer ends after this time, in milliseconds. */
const CANCELLED_GRACE_MS = 1_000
/** The connection is read no further while this much waits for clients that don't read, and again from half of it on. In bytes. */
const MAX_HELD_BYTES = 1_048_576

/** See the file comment. */
export class BoundSession implements MessageListener {
  readonly id: string
  readonly #onOver: () => void
  readonly #calls = new CallTable()
  readonly #outlet = new StandaloneOutlet((message) => this.#refuseLost(message))
  #connection: MessageConnection | undefined
  #initializing:
    | {
        readonly key: string
        readonly resolve: (message: UpstreamMessage) => void
        readonly reject: (error: AdapterError) => void
      }
    | undefined
  #lost: AdapterError | undefined
  #heldBytes = 0
  #isPaused = false
  #isOver = false
  #usedAtMs = performance.now()

  /** `onOver` is called once, when the connection is lost or closed. */
  constructor(id: string, onOver: () => void) {
    this.id = id
    this.#onOver = onOver
  }

  /** Whether the connection is lost or closed. */
  get isOver(): boolean {
    return this.#isOver
  }

  /** For how long nobody has used it, in milliseconds. One with a call or a stream is in use. */
  get idleMs(): number {
    const isInUse = this.#outlet.isOpen || this.#calls.oldest !== undefined
    return isInUse ? 0 : performance.now() - this.#usedAtMs
  }

  /** Opens the connection and sends `initialize`; resolves with its response. Rejects with `AdapterError`; then the session is over. */
  async initialize(
    transport: MessageTransport,
    request: Request,
    body: Uint8Array,
    options: { readonly headers: HeaderList; readonly signal: AbortSignal },
  ): Promise<UpstreamMessage> {
    try {
      const connection = await transport.open(this, options.headers, options.signal)
      this.#connection = connection
      // It can be lost, or not wanted any more, while it is opened.
      if (this.#lost !== undefined) throw this.#lost
      options.signal.throwIfAborted()
      return await new Promise<UpstreamMessage>((resolve, reject) => {
        this.#initializing = { key: idKey(request.id), resolve, reject }
        // oxlint-disable-next-line typescript/prefer-promise-reject-errors -- an AdapterError, as everything that is aborted with here
        options.signal.addEventListener('abort', () => reject(options.signal.reason), {
          once: true,
        })
        connection.send(onOneLine(body), options.headers).catch(reject)
      })
    } catch (error) {
      await this.close()
      throw error
    } finally {
      this.#initializing = undefined
    }
  }

  /** Takes a POST other than `initialize`. */
  post(answer: BoundAnswer, envelope: Envelope, body: Uint8Array, headers: HeaderList): void {
    const requests = envelope.messages.filter((message) => message.kind === 'request')
    this.#usedAtMs = performance.now()
    if (this.#calls.hasAny(requests)) {
      answer.refuse(400, -32600, 'Invalid Request: the id of a request is in use', requests[0]?.id)
      return
    }
    this.#noteCancelled(envelope)
    const call =
      requests.length === 0 ? undefined : this.#addCall(answer, envelope.isBatch, requests)
    // Only revision 2025-03-26 has batches; a connection takes one message at a time.
    const messages = envelope.isBatch
      ? envelope.messages.map(({ value }) => Buffer.from(JSON.stringify(value)))
      : [onOneLine(body)]
    Promise.all(messages.map((message) => this.#send(message, headers))).then(
      () => {
        if (call === undefined) answer.confirm(202)
      },
      (error: unknown) => {
        if (call !== undefined) this.#calls.withdraw(call)
        answer.fail(toAdapterError(error))
      },
    )
  }

  /** Takes a GET. */
  stream(answer: BoundAnswer): void {
    this.#usedAtMs = performance.now()
    if (!this.#outlet.open(answer))
      answer.refuse(409, -32000, 'Conflict: Only one SSE stream is allowed per session')
  }

  message(bytes: Uint8Array): void {
    if (this.#isOver) return
    let messages: readonly UpstreamMessage[]
    try {
      messages = readMessages(bytes)
    } catch (error) {
      this.#fail(toAdapterError(error))
      void this.#connection?.close()
      return
    }
    for (const message of messages) this.#take(message)
  }

  closed(error: AdapterError): void {
    this.#fail(error)
  }

  /** Ends the connection and whatever is under way. Bounded; never rejects. */
  async close(
    error = new AdapterError('ADAPTER_SESSION_UNKNOWN', 'the session of this request was ended'),
  ): Promise<void> {
    this.#fail(error)
    await this.#connection?.close()
  }

  #take(message: UpstreamMessage): void {
    const { kind, value, bytes } = message
    if (kind === 'response') {
      if (this.#takeInitialized(message)) return
      const call = this.#calls.take(value['id'])
      if (call !== undefined) this.#respond(call, bytes)
      return
    }
    const related =
      kind === 'notification' && value['method'] === 'notifications/progress'
        ? this.#calls.ofProgress(value['params'])
        : undefined
    const call = related ?? this.#calls.only
    if (call !== undefined) call.answer.send(bytes)
    else if (this.#outlet.isOpen) this.#outlet.send(message)
    else if (this.#calls.oldest !== undefined) this.#calls.oldest.answer.send(bytes)
    else if (kind === 'request' && value['method'] === 'ping')
      this.#reply(value['id'], { result: {} })
    else this.#outlet.send(message)
  }

  #takeInitialized(message: UpstreamMessage): boolean {
    const initializing = this.#initializing
    if (initializing === undefined) return false
    const { key, resolve } = initializing
    const isIts = findByResponseId(message.value['id'], (one) => (one === key ? true : undefined))
    if (isIts === true) resolve(message)
    return isIts === true
  }

  #respond(call: BoundCall, bytes: Uint8Array): void {
    const { answer, isBatch, waiting } = call
    const isLast = waiting.size === 0
    if (isLast) this.#calls.remove(call)
    if (isLast && !isBatch && !answer.isStream) {
      answer.respond(200, bytes)
      return
    }
    answer.send(bytes)
    if (isLast) answer.end()
  }

  #addCall(answer: BoundAnswer, isBatch: boolean, requests: readonly Request[]): BoundCall {
    const call = this.#calls.add(answer, isBatch, requests)
    answer.belongTo({
      onAbort: () => this.#calls.remove(call),
      onHeld: (bytes) => this.#pace(bytes),
    })
    call.timer = setTimeout(() => answer.begin(), STREAM_AFTER_MS)
    return call
  }

  #noteCancelled({ messages }: Envelope): void {
    for (const message of messages) {
      if (message.kind !== 'notification' || message.method !== 'notifications/cancelled') continue
      const call = this.#calls.ofRequest(message.params?.['requestId'])
      if (call === undefined || call.isBatch) continue
      clearTimeout(call.timer)
      call.timer = setTimeout(() => {
        this.#calls.remove(call)
        call.answer.end()
      }, CANCELLED_GRACE_MS)
    }
  }

  async #send(message: Uint8Array, headers: HeaderList): Promise<void> {
    const connection = this.#connection
    if (connection === undefined || this.#isOver)
      throw this.#lost ?? new AdapterError('ADAPTER_SESSION_UNKNOWN', 'the session was ended')
    await connection.send(message, headers)
  }

  /** Answers a request of the upstream's. */
  #reply(id: unknown, outcome: object): void {
    const reply = Buffer.from(JSON.stringify({ jsonrpc: '2.0', id, ...outcome }))
    // A connection that can't take it is about to be lost, which is told by itself.
    this.#send(reply, []).catch(() => undefined)
  }

  /** Nobody will ever see it; whoever asked must not wait for an answer. */
  #refuseLost({ kind, value }: UpstreamMessage): void {
    if (kind !== 'request') return
    const message = 'the client has no stream open to be asked on'
    this.#reply(value['id'], { error: { code: -32603, message } })
  }

  #pace(bytes: number): void {
    this.#heldBytes += bytes
    if (!this.#isPaused && this.#heldBytes > MAX_HELD_BYTES) {
      this.#isPaused = true
      this.#connection?.pause()
    } else if (this.#isPaused && this.#heldBytes < MAX_HELD_BYTES / 2) {
      this.#isPaused = false
      this.#connection?.resume()
    }
  }

  #fail(error: AdapterError): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#lost = error
    this.#initializing?.reject(error)
    for (const call of this.#calls.clear()) call.answer.fail(error)
    this.#outlet.fail(error)
    this.#onOver()
  }
}
