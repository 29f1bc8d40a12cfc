/** What a legacy client POSTed at once, from the exchange that is made for it to the last of its responses, which must come whatever happens. */
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import {
  findByResponseId,
  idKey,
  isObject,
  parseEventData,
  parseJson,
} from '../exchange/json-rpc.ts'
import type { Envelope, RequestId } from '../exchange/json-rpc.ts'
import type { InnerEnd, InnerExchange, InnerListener } from './inner-exchange.ts'

/** An answer that broke off is asked for again, where the upstream numbers its events: so often without anything new, after so many milliseconds. */
const MAX_RESUMPTIONS = 5
const RESUME_AFTER_MS = 500

/** A refusal that is known at once. */
export type Refusal = Extract<InnerEnd, { kind: 'whole' }>

/** What is needed to send messages and to pass on what comes of them. */
export interface PostedMessagesOptions {
  readonly envelope: Envelope
  /** Makes the exchange of the messages, or of what follows an event of its answer. It is not sent yet. */
  readonly exchange: (listener: InnerListener, lastEventId: string | undefined) => InnerExchange
  readonly send: (exchange: InnerExchange) => void
  /** Hands a message to the client; false asks for a pause. */
  readonly deliver: (data: Uint8Array) => boolean
  readonly onHead: (status: number, headers: HeaderList) => void
  /** A response of the upstream's, before it is handed on. */
  readonly onResponse: (message: JsonObject) => void
  /** Called once, when nothing more comes; `status` is that of an answer that was no stream. Not after `abort`. */
  readonly onOver: (status: number | undefined) => void
}

/** See the file comment. */
export class PostedMessages implements InnerListener {
  readonly #options: PostedMessagesOptions
  /** Requests without a response, by `idKey`. */
  readonly #pending = new Map<string, RequestId>()
  #inner: InnerExchange | undefined
  #refusal: Refusal | undefined
  #isStarting = false
  #isOver = false
  #resumptions = 0
  #isResumed = false
  #lastEventId: string | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(options: PostedMessagesOptions) {
    this.#options = options
    for (const message of options.envelope.messages)
      if (message.kind === 'request') this.#pending.set(idKey(message.id), message.id)
  }

  /** Sends them. Answers the refusal when there is one at once: then nothing was handed on. */
  start(): Refusal | undefined {
    this.#isStarting = true
    this.#send(undefined)
    this.#isStarting = false
    return this.#refusal
  }

  /** The client is not interested in a response any more. */
  cancel(id: unknown): void {
    this.#pending.delete(idKey(id))
  }

  /** Whether nobody waits for anything of it: then it may be aborted. */
  get isIdle(): boolean {
    return this.#pending.size === 0
  }

  /** Nothing more is told. */
  abort(): void {
    this.#isOver = true
    clearTimeout(this.#timer)
    this.#inner?.abort()
  }

  /** After a pause that `deliver` asked for. */
  resume(): void {
    this.#inner?.resume()
  }

  head(status: number, headers: HeaderList): void {
    if (!this.#isResumed) this.#options.onHead(status, headers)
  }

  message(data: Uint8Array): boolean {
    this.#resumptions = 0
    let message: unknown
    try {
      message = parseEventData(textOf(data))
    } catch (error) {
      this.#inner?.abort()
      this.#failRest(error instanceof AdapterError ? error : broken('it can not be read'))
      this.#finish(undefined)
      return true
    }
    if (isObject(message) && message['method'] === undefined) this.#settle(message)
    const isFlowing = this.#options.deliver(data)
    // A standalone stream may go on for ever.
    if (this.#isResumed && this.isIdle) {
      this.#inner?.abort()
      this.#finish(undefined)
    }
    return isFlowing
  }

  over(end: InnerEnd): void {
    if (this.#isOver) return
    if (this.#isStarting && end.kind === 'whole' && end.status >= 400) {
      this.#refusal = end
      this.#finish(end.status)
      return
    }
    if (!this.isIdle && (end.kind !== 'whole' || this.#isResumed) && this.#resumes()) return
    if (end.kind === 'whole') this.#takeWhole(end)
    else if (!this.isIdle) {
      const why = end.kind === 'broken' ? end.why : 'the upstream server ended its answer too early'
      this.#failRest(broken(why))
    }
    this.#finish(end.kind === 'whole' ? end.status : undefined)
  }

  #send(lastEventId: string | undefined): void {
    this.#inner = this.#options.exchange(this, lastEventId)
    this.#options.send(this.#inner)
  }

  /** Asks for the rest of an answer, if there is a way to. */
  #resumes(): boolean {
    this.#lastEventId = this.#inner?.lastEventId ?? this.#lastEventId
    const lastEventId = this.#lastEventId
    if (lastEventId === undefined || this.#resumptions >= MAX_RESUMPTIONS) return false
    this.#resumptions++
    this.#isResumed = true
    this.#timer = setTimeout(() => this.#send(lastEventId), RESUME_AFTER_MS)
    return true
  }

  #takeWhole({ status, body }: Refusal): void {
    if (this.isIdle) return
    let parsed: unknown
    try {
      parsed = parseJson(body)
    } catch {
      // Said below.
    }
    for (const message of Array.isArray(parsed) ? parsed : [parsed]) {
      if (!isObject(message)) continue
      const isError = isObject(message['error'])
      // A result counts with a status of success only.
      if (status >= 300 && !isError) continue
      if (this.#settle(message)) {
        this.#options.deliver(parsed === message ? body : bytesOf(message))
      } else if (isError && this.#pending.size === 1) {
        // What is wrong with the request as a whole is often told without its id.
        for (const id of this.#pending.values()) this.#options.deliver(bytesOf({ ...message, id }))
        this.#pending.clear()
      }
    }
    this.#failRest(
      broken(`the upstream server answered with status ${status} and no JSON-RPC response`),
    )
  }

  /** Notes a response; false when nobody waits for it. */
  #settle(message: JsonObject): boolean {
    const key = findByResponseId(message['id'], (one) => (this.#pending.has(one) ? one : undefined))
    if (key === undefined) return false
    this.#pending.delete(key)
    this.#options.onResponse(message)
    return true
  }

  #failRest(error: AdapterError): void {
    const ids = [...this.#pending.values()]
    this.#pending.clear()
    for (const id of ids) this.#options.deliver(new Uint8Array(Buffer.from(error.toJsonRpc(id))))
  }

  #finish(status: number | undefined): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#options.onOver(status)
  }
}

function textOf(data: Uint8Array): string {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('utf8')
}

function bytesOf(message: JsonObject): Uint8Array {
  return new Uint8Array(Buffer.from(JSON.stringify(message)))
}

function broken(why: string): AdapterError {
  return new AdapterError('ADAPTER_UPSTREAM_INVALID', why)
}
