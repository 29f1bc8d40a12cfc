/** Requests that code mode makes for one request of a client: the same headers, the same session, the same way, under ids of their own. */
import { randomBytes } from 'node:crypto'

import type { HeaderList } from '../../shared/frames/frames.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import type { Exchange } from '../exchange/exchange.ts'
import { isObject, readEnvelope } from '../exchange/json-rpc.ts'
import type { Envelope } from '../exchange/json-rpc.ts'
import { InnerExchange } from './inner-exchange.ts'
import type { InnerAnswer } from './inner-exchange.ts'

/** Where the requests of a client go that have passed code mode. */
export interface RequestWay {
  /** Whose scripts are counted together: a session, or null without one. */
  readonly owner: string | null
  take(exchange: Exchange, envelope: Envelope, body: Uint8Array): void
  /** Keeps the session in use until the answer of this is called. */
  hold(): () => void
}

/** What the requests have in common. */
interface InnerRequestsOptions {
  readonly way: RequestWay
  /** The client's. */
  readonly exchange: Exchange
  /** `params._meta` of the client's request. */
  readonly meta: JsonObject
  /** Takes a message that comes before an answer; see `InnerExchangeOptions`. `progress` is set where it is progress of the request itself. */
  readonly onMessage: (message: JsonObject, progress: JsonObject | undefined) => boolean
}

/** A request under way. */
interface InnerRequest {
  readonly exchange: InnerExchange
  readonly id: string
}

/** Of the client's headers: those that describe its own body or the answer to it. */
const NOT_TAKEN_OVER =
  /^(?:mcp-method|mcp-name|mcp-param-.*|accept|accept-encoding|content-length|last-event-id)$/

/** See the file comment. */
export class InnerRequests {
  readonly #options: InnerRequestsOptions
  readonly #headers: readonly string[]
  readonly #underWay = new Set<InnerRequest>()
  #isOver = false

  constructor(options: InnerRequestsOptions) {
    this.#options = options
    this.#headers = innerHeaders(options.exchange.request.headers)
    options.exchange.onDrain(() => {
      for (const { exchange } of this.#underWay) exchange.resume()
    })
  }

  /** Sends a request; never rejects. After `abort`, nothing is sent and no answer comes. */
  ask(
    method: string,
    params: JsonObject,
    options: { readonly maxBytes: number; readonly headers?: HeaderList },
  ): Promise<InnerAnswer> {
    const { maxBytes, headers = [] } = options
    const id = `code-mode-${randomBytes(9).toString('base64url')}`
    return new Promise((resolve) => {
      if (this.#isOver) return
      const request: InnerRequest = {
        id,
        exchange: this.#exchange(id, method, params, maxBytes, headers, (answer) => {
          this.#underWay.delete(request)
          resolve(answer)
        }),
      }
      this.#underWay.add(request)
      this.#send(request.exchange)
    })
  }

  /** Ends what is under way, and says so to the upstream where cutting a connection does not. */
  abort(reason: string): void {
    this.#isOver = true
    for (const { exchange, id } of this.#underWay) {
      exchange.abort()
      if (this.#options.way.owner !== null) this.#cancel(id, reason)
    }
    this.#underWay.clear()
  }

  #exchange(
    id: string,
    method: string,
    params: JsonObject,
    maxBytes: number,
    headers: HeaderList,
    onAnswer: (answer: InnerAnswer) => void,
  ): InnerExchange {
    const { progressToken, ...meta } = this.#options.meta
    const own = progressToken === undefined ? meta : { ...meta, progressToken: id }
    const message = {
      jsonrpc: '2.0',
      id,
      method,
      params: Object.keys(own).length === 0 ? params : { ...params, _meta: own },
    }
    return new InnerExchange({
      request: this.#request(message, ['mcp-method', method, ...headers]),
      id,
      maxBytes,
      onAnswer,
      onMessage: (one) => this.#options.onMessage(one, progressOf(one, id)),
    })
  }

  #cancel(requestId: string, reason: string): void {
    const params = { requestId, reason }
    const message = { jsonrpc: '2.0', method: 'notifications/cancelled', params }
    this.#send(
      new InnerExchange({
        request: this.#request(message, []),
        id: '',
        maxBytes: 65_536,
        onMessage: () => true,
        onAnswer: () => {},
      }),
    )
  }

  #request(message: JsonObject, headers: HeaderList) {
    // Headers of the revision without sessions, which repeat what the body says.
    const more = this.#options.way.owner === null ? headers : []
    return {
      ...this.#options.exchange.request,
      headers: [...this.#headers, ...more],
      body: new Uint8Array(Buffer.from(JSON.stringify(message))),
    }
  }

  #send(exchange: InnerExchange): void {
    const { body } = exchange.request
    if (body === null) return
    this.#options.way.take(exchange, readEnvelope(body), asBytes(body))
  }
}

/** The value of a header that repeats text of the body: what a header can't carry goes in base64. */
export function headerText(text: string): string {
  const isPlain = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(text) && !text.startsWith('=?')
  return isPlain ? text : `=?base64?${Buffer.from(text).toString('base64')}?=`
}

function innerHeaders(received: HeaderList): string[] {
  const headers = ['accept', 'application/json, text/event-stream', 'accept-encoding', 'identity']
  for (let i = 0; i + 1 < received.length; i += 2) {
    const name = received[i] ?? ''
    if (!NOT_TAKEN_OVER.test(name)) headers.push(name, received[i + 1] ?? '')
  }
  return headers
}

function progressOf(message: JsonObject, id: string): JsonObject | undefined {
  if (message['method'] !== 'notifications/progress') return undefined
  const { params } = message
  return isObject(params) && params['progressToken'] === id ? params : undefined
}

function asBytes(body: Uint8Array | string): Uint8Array {
  return typeof body === 'string' ? Buffer.from(body) : body
}
