/** A request of Streamable HTTP that is made here for a legacy client: takes its answer apart into messages, whatever form it comes in. */
import type { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { eventDataBytes } from '../../shared/sse-event.ts'
import { SseSplitter } from '../../shared/sse-splitter.ts'
import type { RequestHead } from '../exchange/exchange.ts'
import { LocalExchange } from '../exchange/local-exchange.ts'
import { isEventStream } from '../exchange/media-type.ts'
import { eventId, hasEventId } from '../exchange/sse.ts'

/** How an answer ended. */
export type InnerEnd =
  /** An event stream that was complete. */
  | { readonly kind: 'stream' }
  /** One whole answer. */
  | {
      readonly kind: 'whole'
      readonly status: number
      readonly headers: HeaderList
      readonly body: Uint8Array
    }
  /** It broke off, or can't be read. */
  | { readonly kind: 'broken'; readonly why: string }

/** Whoever waits for the answer. */
export interface InnerListener {
  head(status: number, headers: HeaderList): void
  /** The data of one event; belongs to the listener. False asks for a pause until `resume`. */
  message(data: Uint8Array): boolean
  /** Once, unless it is aborted. */
  over(end: InnerEnd): void
}

/** See the file comment. */
export class InnerExchange extends LocalExchange {
  readonly #listener: InnerListener
  readonly #maxBytes: number
  readonly #splitter: SseSplitter
  #lastEventId: string | undefined
  #isOpen = true
  #status = 0
  #headers: HeaderList = []
  #isStream = false
  #parts: Uint8Array[] = []
  #bytes = 0

  /** `maxBytes` bounds one event, and an answer that is no stream. `noteRefusal`: for those who count. */
  constructor(
    request: RequestHead,
    maxBytes: number,
    listener: InnerListener,
    noteRefusal?: (error: AdapterError) => void,
  ) {
    super(request, noteRefusal)
    this.#maxBytes = maxBytes
    this.#listener = listener
    this.#splitter = new SseSplitter(maxBytes)
  }

  override get isOpen(): boolean {
    return this.#isOpen
  }

  /** Id of the last event that had one: what follows it may be asked for. */
  get lastEventId(): string | undefined {
    return this.#lastEventId
  }

  /** Nobody waits for the answer any more; nothing more is told. */
  abort(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#parts = []
    this.tellAborted()
  }

  override begin(status: number, headers: HeaderList): void {
    if (!this.#isOpen) return
    this.#status = status
    this.#headers = headers
    this.#isStream = status === 200 && isEventStream(headers)
    this.#listener.head(status, headers)
  }

  override write(chunk: Uint8Array): boolean {
    if (!this.#isOpen) return true
    if (!this.#isStream) {
      this.#bytes += chunk.byteLength
      if (this.#bytes > this.#maxBytes) this.#tooLarge()
      else this.#parts.push(new Uint8Array(chunk))
      return true
    }
    let events: Uint8Array[]
    try {
      events = this.#splitter.push(chunk)
    } catch {
      this.#tooLarge()
      return true
    }
    let isFlowing = true
    for (const event of events) isFlowing = this.#take(event) && isFlowing
    return isFlowing
  }

  override end(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    if (this.#isStream) {
      this.#listener.over({ kind: 'stream' })
      return
    }
    const body = Buffer.concat(this.#parts)
    this.#parts = []
    this.#listener.over({ kind: 'whole', status: this.#status, headers: this.#headers, body })
  }

  override reset(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#listener.over({ kind: 'broken', why: "the upstream server's answer broke off" })
  }

  #take(event: Uint8Array): boolean {
    if (!this.#isOpen) return true
    if (hasEventId(event)) this.#lastEventId = eventId(event) ?? this.#lastEventId
    const data = eventDataBytes(event)
    return data === undefined || data.byteLength === 0 ? true : this.#listener.message(data)
  }

  #tooLarge(): void {
    this.abort()
    const why = `the upstream server's answer is larger than ${this.#maxBytes} bytes`
    this.#listener.over({ kind: 'broken', why })
  }
}
