/** Hands an answer on as an event stream with single messages rewritten. */
import type { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { plainDataPlace } from '../../shared/sse-event.ts'
import { SseSplitter } from '../../shared/sse-splitter.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import type { PendingRewrite } from '../session/session.ts'
import type { UpstreamCall } from '../upstream/upstream.ts'
import { toAdapterError } from './adapter-error.ts'
import type { AnswerSink } from './answer-sink.ts'
import type { Exchange } from './exchange.ts'
import { findByResponseId, hasMethod } from './json-rpc.ts'
import type { KnownAnswers } from './known-answers.ts'
import type { ListWatch } from './list-watch.ts'
import {
  hasEventId,
  hidesData,
  messageEvent,
  messageOf,
  withEventData,
  withPlainData,
} from './sse.ts'

/** Finds the rewrite for a response by the key of its id (`idKey`), once. */
type TakeRewrite = (key: string) => PendingRewrite | undefined

/** Relays an event stream event by event and rewrites the responses that somebody waits for; all other events stay as they are, byte for byte. */
export class SseSink implements AnswerSink {
  readonly #exchange: Exchange
  readonly #splitter: SseSplitter
  readonly #take: TakeRewrite
  readonly #known: KnownAnswers | undefined
  readonly #call: UpstreamCall
  readonly #intercept: ((event: Uint8Array) => Uint8Array | undefined) | undefined
  readonly #passes: ((event: Uint8Array) => boolean) | undefined
  readonly #watch: ListWatch | undefined
  readonly #onEnd: (resumable: boolean) => void
  readonly #onCut: (error: AdapterError, resumable: boolean) => void
  #work: Promise<void> = Promise.resolve()
  #steps = 0
  #resumable = false
  #abandoned = false

  constructor(options: {
    exchange: Exchange
    head: { status: number; headers: HeaderList }
    take: TakeRewrite
    /** Where answers that some of the rewrites wait for may be known. */
    known?: KnownAnswers | undefined
    /** Looks at each event first and answers what is left of it, undefined for nothing. */
    intercept?: ((event: Uint8Array) => Uint8Array | undefined) | undefined
    /** Tells events that need no look: they go on at once, unless others before them wait. */
    passes?: ((event: Uint8Array) => boolean) | undefined
    /** Looks at events that nothing is rewritten in. */
    watch?: ListWatch | undefined
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
    this.#intercept = options.intercept
    this.#passes = options.passes
    this.#call = options.call
    this.#watch = options.watch
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
    if (this.#steps === 0 && this.#passes !== undefined && events.every(this.#passes)) {
      this.#relay(events)
      return
    }
    this.#call.pause()
    this.#after(async () => {
      let flowing = true
      for (const event of events) {
        // In order, whatever a rewrite waits for.
        const rewritten = await this.#rewrite(event)
        if (rewritten !== undefined) flowing = this.#exchange.write(rewritten)
      }
      if (flowing) this.#call.resume()
    })
  }

  end(): void {
    this.#after(async () => {
      const rest = this.#splitter.rest()
      // Not an event to most clients, but to those that go without its end.
      const rewritten = rest.byteLength > 0 ? await this.#rewrite(rest) : undefined
      if (rewritten !== undefined) this.#exchange.write(rewritten)
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

  #relay(events: readonly Uint8Array[]): void {
    let flowing = true
    for (const event of events) {
      this.#resumable ||= hasEventId(event)
      flowing = this.#exchange.write(event)
    }
    if (!flowing) this.#call.pause()
  }

  #after(step: () => Promise<void> | void): void {
    this.#steps++
    this.#work = this.#work.then(async () => {
      try {
        if (!this.#abandoned) await step()
      } catch (error) {
        // What comes after it is not read: the upstream must not wait for a reader.
        this.#abandoned = true
        this.#call.abort()
        this.#onCut(toAdapterError(error), this.#resumable)
      } finally {
        this.#steps--
      }
    })
  }

  async #rewrite(received: Uint8Array): Promise<Uint8Array | undefined> {
    if (!this.#resumable) this.#resumable = hasEventId(received)
    const event = this.#intercept === undefined ? received : this.#intercept(received)
    if (event === undefined) return undefined
    if (this.#watch !== undefined && hidesData(event)) throw this.#watch.found()
    const known = this.#known
    const place = known && plainDataPlace(event)
    const data = place && event.subarray(place.start, place.end)
    const found = data && known?.find([data])
    const taken = found && this.#take(found.idKey)
    if (place && found && taken?.known === known && (await isAdmitted(taken, found.memo))) {
      return withPlainData(event, place, found.rewritten())
    }
    const message = messageOf(event)
    const isResponse = message !== undefined && !hasMethod(message)
    const rewrite = isResponse ? (taken ?? findByResponseId(message['id'], this.#take)) : undefined
    if (!isResponse || rewrite === undefined) {
      this.#watch?.refuse(event, true)
      return event
    }
    const { id } = message
    try {
      const rewritten = await rewrite.rewrite(message, (kept, memo) => {
        if (data) {
          rewrite.known?.note(new Uint8Array(data), kept, { memo, isSame: kept === message })
        }
      })
      if (rewritten === message) return event
      return withEventData(event, JSON.stringify(rewritten))
    } catch (error) {
      // This answer failed; the rest of the stream did not.
      const itsId = typeof id === 'string' || typeof id === 'number' ? id : null
      return withEventData(event, toAdapterError(error).toJsonRpc(itsId))
    }
  }
}

/** What can't be told now is told, or fails, when the answer is rewritten. */
async function isAdmitted(rewrite: PendingRewrite | undefined, memo: unknown): Promise<boolean> {
  try {
    return rewrite?.admits === undefined || (await rewrite.admits(memo))
  } catch {
    return false
  }
}
