/**
 * One listing on its way from an upstream, for the request that it was sent for and for others that ask the same meanwhile. It is held until it is seen to be
 * a listing; anything else goes to the one that it was sent for, and the others ask for themselves.
 */
import type { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { eventData } from '../../shared/sse-event.ts'
import { SseSplitter } from '../../shared/sse-splitter.ts'
import type {
  AnswerListener,
  Upstream,
  UpstreamCall,
  UpstreamRequest,
} from '../upstream/upstream.ts'
import { isObject, parseJson } from './json-rpc.ts'
import type { RequestId } from './json-rpc.ts'
import { aroundId, isSameAround } from './known-answers.ts'
import type { Around } from './known-answers.ts'
import { ListingWaiter } from './listing-waiter.ts'
import { isEventStream, isJson } from './media-type.ts'
import { messageOf } from './sse.ts'

/** Longer answers are passed on as they come, in bytes. */
const MAX_HELD_BYTES = 2 * 1024 * 1024

/** What a fetch is made of. */
export interface ListingFetchOptions {
  readonly upstream: Pick<Upstream, 'call'>
  readonly request: UpstreamRequest
  readonly id: RequestId
  readonly listener: AnswerListener
  /** The listing that answered the same question before: one of the same bytes need not be read. */
  readonly before?: Around | undefined
  /** Called before anybody gets it. */
  readonly onListing: (around: Around) => void
  /** Nobody can join any more. Called once. */
  readonly onSettled: () => void
  /** Longest wait of those that join, in milliseconds. */
  readonly maxWaitMs?: number
}

/** See the file comment. The call is that of the request that it was sent for. */
export class ListingFetch implements AnswerListener, UpstreamCall {
  readonly #options: ListingFetchOptions
  readonly #waiters = new Set<ListingWaiter>()
  readonly #held: Uint8Array[] = []
  readonly #splitter = new SseSplitter(MAX_HELD_BYTES)
  #heldBytes = 0
  #head: { readonly status: number; readonly headers: HeaderList } | undefined
  #call: UpstreamCall | undefined
  /** Whether answers are passed on as they come. */
  #passes = false
  #isSettled = false
  /** Whether the request that it was sent for was given up. */
  #isAlone = false

  constructor(options: ListingFetchOptions) {
    this.#options = options
  }

  start(): this {
    const { upstream, request } = this.#options
    this.#call = upstream.call(request, this)
    return this
  }

  /** Has another request wait for this answer; `ask` sends it by itself. */
  join(id: RequestId, listener: AnswerListener, ask: () => UpstreamCall): UpstreamCall {
    const waiter: ListingWaiter = new ListingWaiter(
      id,
      listener,
      ask,
      (waitedMs) => this.#left(waiter, waitedMs),
      this.#options.maxWaitMs,
    )
    this.#waiters.add(waiter)
    return waiter
  }

  abort(waitedMs?: number): void {
    this.#isAlone = true
    if (this.#waiters.size > 0) return
    this.#call?.abort(waitedMs)
    this.#settle()
  }

  pause(): void {
    if (this.#passes) this.#call?.pause()
  }

  resume(): void {
    if (this.#passes) this.#call?.resume()
  }

  head(status: number, headers: HeaderList): void {
    this.#head = { status, headers }
    const isReadable = isJson(headers) || isEventStream(headers)
    if (status !== 200 || !isReadable || headers.includes('content-encoding')) this.#isNone()
  }

  data(chunk: Uint8Array): void {
    if (this.#passes) {
      if (!this.#isAlone) this.#options.listener.data(chunk)
      return
    }
    this.#held.push(chunk.slice())
    this.#heldBytes += chunk.byteLength
    if (this.#heldBytes > MAX_HELD_BYTES) this.#isNone()
    else if (isEventStream(this.#head?.headers ?? [])) this.#readEvents(chunk)
  }

  end(): void {
    if (!this.#passes) {
      if (isEventStream(this.#head?.headers ?? [])) this.#isNone()
      else this.#readJson()
    }
    if (!this.#isAlone) this.#options.listener.end()
  }

  error(error: AdapterError): void {
    const waiting = this.#settle()
    // As much as there is: it may say how to ask for the rest.
    if (this.#head !== undefined) this.#passOn()
    if (!this.#isAlone) this.#options.listener.error(error)
    for (const waiter of waiting) waiter.fail(error)
  }

  #readEvents(chunk: Uint8Array): void {
    let bytes: Uint8Array | undefined
    let message: unknown
    try {
      for (const event of this.#splitter.push(chunk)) {
        message ??= messageOf(event)
        if (message !== undefined) bytes ??= Buffer.from(eventData(event) ?? '')
      }
    } catch {
      // Whoever gets it says what is wrong with it.
      this.#isNone()
      return
    }
    if (message !== undefined) this.#take(bytes, message)
  }

  #readJson(): void {
    const { before, id } = this.#options
    if (before !== undefined && isSameAround(this.#held, before, id)) {
      this.#isListing(before)
      return
    }
    const body = Buffer.concat(this.#held)
    let message: unknown
    try {
      message = parseJson(body)
    } catch {
      // As above.
    }
    this.#take(body, message)
  }

  /** Looks at the first message of the answer; one that is not to be kept is still the answer. */
  #take(bytes: Uint8Array | undefined, message: unknown): void {
    const around = bytes && isWhole(message, this.#options.id) && aroundId(bytes, this.#options.id)
    if (around === undefined || around === false) {
      this.#isNone()
      return
    }
    this.#isListing(around)
  }

  #isListing(around: Around): void {
    this.#options.onListing(around)
    for (const waiter of this.#settle()) waiter.answer(around)
    this.#passOn()
  }

  #isNone(): void {
    for (const waiter of this.#settle()) waiter.askItself()
    this.#passOn()
  }

  #passOn(): void {
    if (this.#passes) return
    this.#passes = true
    const { listener } = this.#options
    const { status, headers } = this.#head ?? { status: 502, headers: [] }
    if (this.#isAlone) this.#call?.abort()
    else listener.head(status, headers)
    for (const part of this.#held) if (!this.#isGone()) listener.data(part)
    this.#held.length = 0
  }

  /** A listener may give up at any word. */
  #isGone(): boolean {
    return this.#isAlone
  }

  #settle(): readonly ListingWaiter[] {
    if (this.#isSettled) return []
    this.#isSettled = true
    this.#options.onSettled()
    const waiting = [...this.#waiters]
    this.#waiters.clear()
    return waiting
  }

  #left(waiter: ListingWaiter, waitedMs: number | undefined): void {
    this.#waiters.delete(waiter)
    if (this.#isAlone && this.#waiters.size === 0 && !this.#isSettled) this.abort(waitedMs)
  }
}

/** Whether it is the answer, a result, and all of the list: a page is named by a cursor that may be of one session only. */
function isWhole(message: unknown, id: RequestId): boolean {
  if (!isObject(message) || message['id'] !== id) return false
  const { result } = message
  return isObject(result) && message['error'] === undefined && result['nextCursor'] === undefined
}
