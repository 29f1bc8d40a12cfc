/** Three ways to hand an upstream's answer to the client: as it comes, as rewritten JSON, or as an event stream with single messages rewritten. */
import { AdapterError, StoreUnavailableError } from '../../shared/errors.ts'
import { ownBytes } from '../../shared/frames/channel.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import type { PendingRewrite } from '../session/session.ts'
import type { UpstreamCall } from '../upstream/upstream.ts'
import type { Exchange } from './exchange.ts'
import { isObject, parseEventData, parseJson } from './json-rpc.ts'
import type { KnownAnswers } from './known-answers.ts'
import {
  eventData,
  hasEventId,
  messageEvent,
  plainDataPlace,
  SseSplitter,
  withEventData,
  withPlainData,
} from './sse.ts'

/** Takes the body of one answer. */
export interface AnswerSink {
  data(chunk: Uint8Array): void
  /** The upstream finished properly. */
  end(): void
  /** The upstream's answer broke off. */
  error(error: AdapterError): void
  /** The client went away. */
  abandon(): void
}

/** Finds the rewrite for a response by the key of its id (`idKey`), once. */
export type TakeRewrite = (key: string) => PendingRewrite | undefined

/** Ids of different types are different ids: `1` is not `"1"`. */
export function idKey(id: unknown): string {
  return JSON.stringify(id) ?? 'undefined'
}

/** Relays bytes as they come, at the client's pace. */
export class RawSink implements AnswerSink {
  readonly #exchange: Exchange
  readonly #onCut: (error: AdapterError, resumable: boolean) => void
  readonly #isStream: boolean
  #resumable = false
  /** The last bytes of the chunk before: a field name may be cut in two. */
  #tail = '\n'

  /** Sends the head at once. `onCut` ends the answer when the upstream's broke off; `resumable` says that the stream carried event ids. */
  constructor(
    exchange: Exchange,
    head: { status: number; headers: HeaderList },
    call: UpstreamCall,
    onCut: (error: AdapterError, resumable: boolean) => void,
  ) {
    this.#exchange = exchange
    this.#onCut = onCut
    exchange.onDrain(() => call.resume())
    this.#pause = () => call.pause()
    this.#isStream = isEventStream(head.headers)
    exchange.begin(head.status, head.headers)
  }

  readonly #pause: () => void

  data(chunk: Uint8Array): void {
    if (this.#isStream && !this.#resumable) this.#lookForEventId(chunk)
    if (!this.#exchange.write(chunk)) this.#pause()
  }

  end(): void {
    this.#exchange.end()
  }

  error(error: AdapterError): void {
    this.#onCut(error, this.#resumable)
  }

  abandon(): void {}

  #lookForEventId(chunk: Uint8Array): void {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    this.#resumable =
      bytes.includes('\nid:') ||
      bytes.includes('\rid:') ||
      /[\r\n]id:/.test(this.#tail + bytes.toString('latin1', 0, 3))
    this.#tail = (this.#tail + bytes.subarray(-3).toString('latin1')).slice(-3)
  }
}

/** Takes a JSON answer whole, rewrites the responses that somebody waits for, adds local ones, and sends it. */
export class JsonSink implements AnswerSink {
  readonly #exchange: Exchange
  readonly #head: { status: number; headers: HeaderList }
  readonly #rewrites: ReadonlyMap<string, PendingRewrite>
  readonly #locals: readonly JsonObject[]
  readonly #maxBytes: number
  readonly #call: UpstreamCall
  readonly #fail: (error: AdapterError) => void
  #parts: Uint8Array[] = []
  #size = 0
  #over = false

  constructor(options: {
    exchange: Exchange
    head: { status: number; headers: HeaderList }
    rewrites: ReadonlyMap<string, PendingRewrite>
    /** Responses of our own that belong into the same (batch) answer. */
    locals: readonly JsonObject[]
    maxBytes: number
    call: UpstreamCall
    /** Answers with an error; nothing has been sent. */
    fail: (error: AdapterError) => void
  }) {
    this.#exchange = options.exchange
    this.#head = options.head
    this.#rewrites = options.rewrites
    this.#locals = options.locals
    this.#maxBytes = options.maxBytes
    this.#call = options.call
    this.#fail = options.fail
  }

  data(chunk: Uint8Array): void {
    if (this.#over) return
    this.#size += chunk.byteLength
    if (this.#size > this.#maxBytes) {
      this.#call.abort()
      this.error(
        new AdapterError(
          'ADAPTER_UPSTREAM_INVALID',
          `the upstream server's answer is larger than core.max_response_message_bytes (${this.#maxBytes} bytes)`,
        ),
      )
      return
    }
    this.#parts.push(ownBytes(chunk))
  }

  end(): void {
    if (this.#over) return
    this.#over = true
    const parts = this.#parts
    this.#parts = []
    const known = this.#knownAnswer(parts)
    if (known !== undefined) {
      this.#exchange.respond(this.#head.status, this.#head.headers, known)
      return
    }
    this.#rewrite(Buffer.concat(parts)).then(
      (rewritten) => this.#exchange.respond(this.#head.status, this.#head.headers, rewritten),
      (error: unknown) => this.#failAll(toAdapterError(error)),
    )
  }

  error(error: AdapterError): void {
    if (this.#over) return
    this.#over = true
    this.#failAll(error)
  }

  abandon(): void {
    this.#over = true
    for (const rewrite of this.#rewrites.values()) rewrite.abandon()
  }

  /** What was made of the same answer before. Only where one rewrite waits for it, and so for all of it. */
  #knownAnswer(parts: readonly Uint8Array[]): Uint8Array | undefined {
    const [[key, { known }] = ['', {}], ...others] = this.#rewrites
    if (known === undefined || others.length > 0 || this.#locals.length > 0) return undefined
    const found = known.find(parts)
    return found?.idKey === key ? found.rewritten() : undefined
  }

  #failAll(error: AdapterError): void {
    for (const rewrite of this.#rewrites.values()) rewrite.abandon()
    this.#fail(error)
  }

  async #rewrite(body: Uint8Array): Promise<Uint8Array | string> {
    let parsed: unknown = []
    try {
      // No body at all: the upstream had only notifications to take.
      if (body.byteLength > 0 || this.#locals.length === 0) parsed = parseJson(body)
    } catch (error) {
      throw new AdapterError(
        'ADAPTER_UPSTREAM_INVALID',
        'the upstream server answered with something that is not JSON',
        { cause: error },
      )
    }
    const isList = Array.isArray(parsed)
    const messages: unknown[] = isList && Array.isArray(parsed) ? parsed : [parsed]
    const open = new Map(this.#rewrites)
    let changed = this.#locals.length > 0
    for (const [index, message] of messages.entries()) {
      if (!isObject(message) || message['method'] !== undefined) continue
      const key = idKey(message['id'])
      const rewrite = open.get(key)
      if (rewrite === undefined) continue
      open.delete(key)
      // One after the other: they share the session's quota, and order decides who gets the last byte of it.
      const rewritten = await rewrite.rewrite(message)
      messages[index] = rewritten
      if (!isList) rewrite.known?.note(body, rewritten)
      changed = true
    }
    for (const rewrite of open.values()) rewrite.abandon()
    if (!changed) return body
    const all = [...this.#locals, ...messages]
    // Responses of our own are here only when the client sent a batch.
    return JSON.stringify(isList || this.#locals.length > 0 ? all : all[0])
  }
}

/** Relays an event stream event by event and rewrites the responses that somebody waits for; all other events stay as they are, byte for byte. */
export class SseSink implements AnswerSink {
  readonly #exchange: Exchange
  readonly #splitter: SseSplitter
  readonly #take: TakeRewrite
  readonly #known: KnownAnswers | undefined
  readonly #call: UpstreamCall
  readonly #onEnd: (resumable: boolean) => void
  readonly #onCut: (error: AdapterError, resumable: boolean) => void
  #work: Promise<void> = Promise.resolve()
  #resumable = false
  #abandoned = false

  constructor(options: {
    exchange: Exchange
    head: { status: number; headers: HeaderList }
    take: TakeRewrite
    /** Where answers that some of the rewrites wait for may be known. */
    known?: KnownAnswers | undefined
    locals: readonly JsonObject[]
    maxBytes: number
    call: UpstreamCall
    /** The upstream closed the stream; called before ours is closed. */
    onEnd: (resumable: boolean) => void
    onCut: (error: AdapterError, resumable: boolean) => void
  }) {
    this.#exchange = options.exchange
    this.#splitter = new SseSplitter(options.maxBytes)
    this.#take = options.take
    this.#known = options.known
    this.#call = options.call
    this.#onEnd = options.onEnd
    this.#onCut = options.onCut
    options.exchange.onDrain(() => options.call.resume())
    options.exchange.begin(options.head.status, options.head.headers)
    for (const local of options.locals) options.exchange.write(messageEvent(JSON.stringify(local)))
  }

  get isResumable(): boolean {
    return this.#resumable
  }

  data(chunk: Uint8Array): void {
    let events: Uint8Array[]
    try {
      events = this.#splitter.push(chunk)
    } catch (error) {
      this.#call.abort()
      this.error(toAdapterError(error))
      return
    }
    if (events.length === 0) return
    this.#call.pause()
    this.#after(async () => {
      let flowing = true
      for (const event of events) {
        // In order, whatever a rewrite waits for.
        flowing = this.#exchange.write(await this.#rewrite(event))
      }
      if (flowing) this.#call.resume()
    })
  }

  end(): void {
    this.#after(() => {
      const rest = this.#splitter.rest()
      if (rest.byteLength > 0) this.#exchange.write(rest)
      this.#onEnd(this.#resumable)
      this.#exchange.end()
    })
  }

  error(error: AdapterError): void {
    this.#after(() => this.#onCut(error, this.#resumable))
  }

  abandon(): void {
    this.#abandoned = true
    this.#onEnd(this.#resumable)
  }

  #after(step: () => Promise<void> | void): void {
    this.#work = this.#work.then(async () => {
      if (this.#abandoned) return
      try {
        await step()
      } catch (error) {
        // What comes after it is not read: the upstream must not wait for a reader.
        this.#abandoned = true
        this.#call.abort()
        this.#onCut(toAdapterError(error), this.#resumable)
      }
    })
  }

  async #rewrite(event: Uint8Array): Promise<Uint8Array> {
    if (!this.#resumable) this.#resumable = hasEventId(event)
    const known = this.#known
    const place = known && plainDataPlace(event)
    const data = place && event.subarray(place.start, place.end)
    const found = data && known?.find([data])
    const taken = found && this.#take(found.idKey)
    if (place && found && taken?.known === known) {
      return withPlainData(event, place, found.rewritten())
    }
    const message = messageOf(event)
    if (message === undefined || message['method'] !== undefined) return event
    const { id } = message
    const rewrite = taken ?? this.#take(idKey(id))
    if (rewrite === undefined) return event
    try {
      const rewritten = await rewrite.rewrite(message)
      if (rewritten === message) return event
      if (data) rewrite.known?.note(new Uint8Array(data), rewritten)
      return withEventData(event, JSON.stringify(rewritten))
    } catch (error) {
      // This answer failed; the rest of the stream did not.
      const itsId = typeof id === 'string' || typeof id === 'number' ? id : null
      return withEventData(event, toAdapterError(error).toJsonRpc(itsId))
    }
  }
}

/** The JSON-RPC message in an event, if there is one. Throws ADAPTER_UPSTREAM_INVALID for one that must not be parsed. */
export function messageOf(event: Uint8Array): JsonObject | undefined {
  const data = eventData(event)
  const value = data === undefined ? undefined : parseEventData(data)
  return isObject(value) ? value : undefined
}

/** Whether the media type is that of an event stream. */
export function isEventStream(headers: HeaderList): boolean {
  return contentType(headers).startsWith('text/event-stream')
}

/** Whether the media type is JSON. */
export function isJson(headers: HeaderList): boolean {
  return contentType(headers).startsWith('application/json')
}

/** Any error as one that can be answered; what we did not expect is not shown. */
export function toAdapterError(error: unknown): AdapterError {
  if (error instanceof AdapterError) return error
  return error instanceof StoreUnavailableError
    ? new AdapterError('ADAPTER_STATE_UNAVAILABLE', 'the state store does not answer; try again', {
        cause: error,
      })
    : new AdapterError('ADAPTER_INTERNAL', 'the adapter failed while it handled this request', {
        cause: error,
      })
}

function contentType(headers: HeaderList): string {
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i] === 'content-type') return (headers[i + 1] ?? '').toLowerCase()
  }
  return ''
}
