/** The answer to a client's request: one JSON response at the end, or an event stream from the moment that there is something to say before it. */
import { headerValue } from '../../shared/frames/header-list.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import type { Exchange } from '../exchange/exchange.ts'
import { messageEvent } from '../exchange/sse.ts'

/** Proxies cut what is silent for longer, in milliseconds. */
const KEEP_ALIVE_MS = 15_000
const EVENT_STREAM = ['content-type', 'text/event-stream', 'cache-control', 'no-cache']
const COMMENT = Buffer.from(': keep-alive\n\n')

/** See the file comment. */
export class ClientAnswer {
  readonly #exchange: Exchange
  readonly #takesEvents: boolean
  readonly #keepAlive: NodeJS.Timeout
  #isStream = false

  constructor(exchange: Exchange) {
    this.#exchange = exchange
    const accept = headerValue(exchange.request.headers, 'accept') ?? ''
    this.#takesEvents = /text\/event-stream|text\/\*|\*\/\*/.test(accept)
    this.#keepAlive = setInterval(() => this.#write(COMMENT), KEEP_ALIVE_MS)
    this.#keepAlive.unref()
  }

  /** Sends a message before the response; false asks to wait for the exchange to drain. A client that takes no events does not get it. */
  send(message: JsonObject): boolean {
    return this.#write(messageEvent(JSON.stringify(message)))
  }

  /** Sends the response, with this status where it is the whole answer. */
  finish(response: JsonObject, status = 200): void {
    clearInterval(this.#keepAlive)
    const text = JSON.stringify(response)
    if (!this.#isStream) {
      this.#exchange.respond(status, ['content-type', 'application/json'], Buffer.from(text))
      return
    }
    this.#exchange.write(messageEvent(text))
    this.#exchange.end()
  }

  /** Ends without a response, as a request ends that its client cancelled. */
  cancel(): void {
    this.abandon()
    if (this.#isStream) this.#exchange.end()
    else this.#exchange.respond(200, EVENT_STREAM)
  }

  /** Nothing more is to be sent from here. */
  abandon(): void {
    clearInterval(this.#keepAlive)
  }

  #write(event: Uint8Array): boolean {
    if (!this.#takesEvents || !this.#exchange.isOpen) return true
    if (!this.#isStream) {
      this.#isStream = true
      this.#exchange.begin(200, EVENT_STREAM)
    }
    return this.#exchange.write(event)
  }
}
