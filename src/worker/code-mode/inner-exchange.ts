/**
 * A request of code mode's own, on the way that requests of clients take: an `Exchange` whose client is here. It takes the answer in whichever form it
 * comes, and hands on what comes before it.
 */
import type { HeaderList } from '../../shared/frames/frames.ts'
import { headerValue } from '../../shared/frames/header-list.ts'
import { SseSplitter } from '../../shared/sse-splitter.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import { LocalExchange } from '../exchange/local-exchange.ts'
import { isEventStream } from '../exchange/media-type.ts'
import type { RequestHead } from '../exchange/exchange.ts'
import { isObject, parseJson } from '../exchange/json-rpc.ts'
import { messageOf } from '../exchange/sse.ts'

/** How a request ended: with a JSON-RPC response (of whatever status), or without one. */
export type InnerAnswer =
  | { readonly kind: 'response'; readonly status: number; readonly message: JsonObject }
  | { readonly kind: 'none'; readonly why: string }

/** How long a stream may stay open after its answer, in milliseconds: an upstream that ends it by itself can have its connection used again. */
const LINGER_MS = 1_000

export interface InnerExchangeOptions {
  readonly request: RequestHead
  /** Id of the request in its body, as a string of our own. */
  readonly id: string
  /** Largest answer, in bytes. */
  readonly maxBytes: number
  /** Takes messages of the upstream that come before the answer; false asks for a pause until `resume`. */
  readonly onMessage: (message: JsonObject) => boolean
  readonly onAnswer: (answer: InnerAnswer) => void
}

/** See the file comment. */
export class InnerExchange extends LocalExchange {
  readonly #options: InnerExchangeOptions
  readonly #splitter: SseSplitter
  #isOpen = true
  #isAnswered = false
  #status = 0
  #isStream = false
  #parts: Uint8Array[] = []
  #bytes = 0
  #linger: NodeJS.Timeout | undefined

  constructor(options: InnerExchangeOptions) {
    super(options.request)
    this.#options = options
    this.#splitter = new SseSplitter(options.maxBytes)
  }

  override get isOpen(): boolean {
    return this.#isOpen
  }

  /** Whoever waited for the answer is gone; nothing more is told. */
  abort(): void {
    this.#isAnswered = true
    this.#cut()
  }

  override begin(status: number, headers: HeaderList): void {
    if (!this.#isOpen) return
    this.#status = status
    this.#isStream = isEventStream(headers)
    const encoding = headerValue(headers, 'content-encoding') ?? 'identity'
    if (encoding !== 'identity') {
      this.#answer({ kind: 'none', why: `the upstream server's answer is encoded (${encoding})` })
      this.#cut()
    }
  }

  override write(chunk: Uint8Array): boolean {
    if (!this.#isOpen) return true
    if (!this.#isStream) {
      this.#bytes += chunk.byteLength
      if (this.#bytes > this.#options.maxBytes) this.#tooLarge()
      else this.#parts.push(new Uint8Array(chunk))
      return true
    }
    let isFlowing = true
    try {
      for (const event of this.#splitter.push(chunk)) isFlowing = this.#event(event) && isFlowing
    } catch {
      this.#tooLarge()
    }
    return isFlowing
  }

  override end(): void {
    if (!this.#isOpen) return
    this.#close()
    if (this.#isStream || this.#isAnswered) {
      this.#answer({ kind: 'none', why: 'the upstream server ended its answer too early' })
      return
    }
    this.#answer(this.#whole())
  }

  override reset(): void {
    if (!this.#isOpen) return
    this.#close()
    this.#answer({ kind: 'none', why: "the upstream server's answer broke off" })
  }

  #event(event: Uint8Array): boolean {
    const message = messageOf(event)
    if (message === undefined || this.#isAnswered) return true
    if (message['method'] !== undefined) return this.#options.onMessage(message)
    if (message['id'] !== this.#options.id) return true
    this.#answer({ kind: 'response', status: this.#status, message })
    this.#linger = setTimeout(() => this.#cut(), LINGER_MS)
    return true
  }

  #whole(): InnerAnswer {
    const body = Buffer.concat(this.#parts)
    this.#parts = []
    try {
      const message = parseJson(body)
      // A result counts with a status of success only: the others are passed on without a look at what they hold.
      if (isObject(message) && (this.#status < 300 || message['result'] === undefined))
        return { kind: 'response', status: this.#status, message }
    } catch {
      // Said below.
    }
    return {
      kind: 'none',
      why: `the upstream server answered with status ${this.#status} and no JSON-RPC response`,
    }
  }

  #tooLarge(): void {
    const { maxBytes } = this.#options
    this.#answer({ kind: 'none', why: `the answer is larger than ${maxBytes} bytes` })
    this.#cut()
  }

  #cut(): void {
    if (!this.#isOpen) return
    this.#close()
    this.#parts = []
    this.tellAborted()
  }

  #close(): void {
    this.#isOpen = false
    clearTimeout(this.#linger)
  }

  #answer(answer: InnerAnswer): void {
    if (this.#isAnswered) return
    this.#isAnswered = true
    this.#options.onAnswer(answer)
  }
}
