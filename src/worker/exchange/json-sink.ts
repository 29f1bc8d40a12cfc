/** Hands an answer on as rewritten JSON. */
import { AdapterError } from '../../shared/errors.ts'
import { ownBytes } from '../../shared/frames/channel.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import type { PendingRewrite } from '../session/session.ts'
import type { UpstreamCall } from '../upstream/upstream.ts'
import { toAdapterError } from './adapter-error.ts'
import type { AnswerSink } from './answer-sink.ts'
import type { Exchange } from './exchange.ts'
import { findByResponseId, hasMethod, isObject, parseJson } from './json-rpc.ts'
import type { ListWatch } from './list-watch.ts'

/** Takes a JSON answer whole, rewrites the responses that somebody waits for, adds local ones, and sends it. */
export class JsonSink implements AnswerSink {
  readonly #exchange: Exchange
  readonly #head: { status: number; headers: HeaderList }
  readonly #rewrites: ReadonlyMap<string, PendingRewrite>
  readonly #locals: readonly JsonObject[]
  readonly #watch: ListWatch | undefined
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
    /** Looks at messages that nothing is rewritten in. */
    watch: ListWatch | undefined
    maxBytes: number
    call: UpstreamCall
    /** Answers with an error; nothing has been sent. */
    fail: (error: AdapterError) => void
  }) {
    this.#exchange = options.exchange
    this.#head = options.head
    this.#rewrites = options.rewrites
    this.#locals = options.locals
    this.#watch = options.watch
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
    const respond = (body: Uint8Array | string): void =>
      this.#exchange.respond(this.#head.status, this.#head.headers, body)
    const known = this.#knownAnswer(parts)
    if (known?.isAdmitted === true) {
      respond(known.rewritten())
      return
    }
    const decided = known === undefined ? false : known.isAdmitted
    Promise.resolve(decided)
      .then((isAdmitted) =>
        known !== undefined && isAdmitted ? known.rewritten() : this.#rewrite(Buffer.concat(parts)),
      )
      .then(respond, (error: unknown) => this.#failAll(toAdapterError(error)))
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
  #knownAnswer(
    parts: readonly Uint8Array[],
  ): { isAdmitted: boolean | Promise<boolean>; rewritten: () => Uint8Array } | undefined {
    const [[key, rewrite] = ['', undefined], ...others] = this.#rewrites
    if (others.length > 0 || this.#locals.length > 0) return undefined
    const found = rewrite?.known?.find(parts)
    if (rewrite === undefined || found?.idKey !== key) return undefined
    return {
      isAdmitted: rewrite.admits === undefined || rewrite.admits(found.memo),
      rewritten: () => found.rewritten(),
    }
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
      const rewrite = isResponse(message)
        ? findByResponseId(message['id'], (key) => {
            const waiting = open.get(key)
            open.delete(key)
            return waiting
          })
        : undefined
      if (!isResponse(message) || rewrite === undefined) {
        this.#watch?.refuse(Buffer.from(JSON.stringify(message)), false)
        continue
      }
      // One after the other: they share the session's quota, and order decides who gets the last byte of it.
      const keep = isList
        ? undefined
        : (kept: JsonObject, memo: unknown) =>
            rewrite.known?.note(body, kept, { memo, isSame: kept === message })
      const rewritten = await rewrite.rewrite(message, keep)
      messages[index] = rewritten
      if (rewritten !== message) changed = true
    }
    for (const rewrite of open.values()) rewrite.abandon()
    if (!changed) return body
    const all = [...this.#locals, ...messages]
    // Responses of our own are here only when the client sent a batch.
    return JSON.stringify(isList || this.#locals.length > 0 ? all : all[0])
  }
}

function isResponse(message: unknown): message is JsonObject {
  return isObject(message) && !hasMethod(message)
}
