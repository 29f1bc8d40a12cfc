/** Makes exchanges of frames, hands each to who answers it, and knows when all are over. */
import { AdapterError } from '../shared/errors.ts'
import type { ToWorkerFrame } from '../shared/frames/frames.ts'
import type { Log } from '../shared/log.ts'
import { NumberMap } from '../shared/number-map.ts'
import { toAdapterError } from './exchange/adapter-error.ts'
import type { Exchange, RequestHead } from './exchange/exchange.ts'
import { fail } from './exchange/failure.ts'
import { FrameExchange } from './exchange/frame-exchange.ts'
import type { WorkerChannel } from './exchange/frame-exchange.ts'
import { refuseRate } from './session/request-allowance.ts'
import type { RequestAllowance } from './session/request-allowance.ts'

/** Frames about exchanges, without those that are about the worker. */
export type ExchangeFrame = Exclude<
  ToWorkerFrame,
  readonly ['control.drain' | 'control.stop', ...unknown[]]
>

/** Answers exchanges. */
export interface Handler {
  handle(exchange: Exchange): void
}

/** What a dispatcher is made of. */
export interface RequestDispatcherParts {
  readonly channel: WorkerChannel
  readonly log: Log
  /** Undefined without a limit. */
  readonly allowance: RequestAllowance | undefined
  /** Hears of requests that are refused. */
  readonly onRefusal: (request: RequestHead, error: AdapterError) => void
  /** By the index that frames carry; `legacy` undefined where legacy clients are not served. */
  readonly servers: readonly { readonly endpoint: Handler; readonly legacy: Handler | undefined }[]
  readonly uploads: Handler
  readonly downloads: Handler
  readonly hop: Handler
}

/** See the file comment. */
export class RequestDispatcher {
  readonly #parts: RequestDispatcherParts
  readonly #exchanges = new NumberMap<FrameExchange>()
  #isOpen = true
  #whenIdle: (() => void) | undefined

  constructor(parts: RequestDispatcherParts) {
    this.#parts = parts
  }

  /** Whether new requests are taken. */
  get isOpen(): boolean {
    return this.#isOpen
  }

  /** Takes a frame from the primary. */
  receive(frame: ExchangeFrame): void {
    if (frame[0] === 'request.head') this.#open(frame)
    // A frame for an exchange that is over was under way when it ended.
    else this.#exchanges.get(frame[1])?.receive(frame)
  }

  /** Refuses new requests. Resolves when those in hand are over, which ends by a cut what takes longer than `graceMs` milliseconds. */
  async finish(graceMs: number): Promise<void> {
    this.#isOpen = false
    if (this.#exchanges.size > 0) {
      let limit: NodeJS.Timeout | undefined
      await new Promise<void>((resolve) => {
        this.#whenIdle = resolve
        limit = setTimeout(resolve, graceMs)
      })
      clearTimeout(limit)
    }
    for (const exchange of this.#exchanges.values()) exchange.reset()
  }

  #open(frame: Extract<ToWorkerFrame, readonly ['request.head', ...unknown[]]>): void {
    const [, id, route, serverIndex, method, target, headers, body, complete, principal] = frame
    const correlationId = frame[10]
    const request = { route, serverIndex, method, target, headers, body, principal, correlationId }
    const onClosed = (): void => {
      this.#exchanges.delete(id)
      if (this.#exchanges.size === 0) this.#whenIdle?.()
    }
    const { channel, onRefusal } = this.#parts
    const exchange = new FrameExchange(id, request, complete, channel, onClosed, onRefusal)
    this.#exchanges.set(id, exchange)
    if (!this.#isOpen) {
      const error = new AdapterError(
        'ADAPTER_STOPPING',
        'this replica is stopping; repeat the request',
      )
      fail(exchange, error, null)
      return
    }
    this.#guarded(exchange, () => this.#route(exchange))
  }

  /** One request's failure is its own: the worker goes on. */
  #guarded(exchange: FrameExchange, work: () => void): void {
    try {
      work()
    } catch (error) {
      const { route, correlationId } = exchange.request
      this.#parts.log.error(
        { err: error, route, request_id: correlationId },
        'a request failed unexpectedly',
      )
      const failure = new AdapterError(
        'ADAPTER_INTERNAL',
        'the adapter failed while it handled this request',
      )
      fail(exchange, failure, null)
    }
  }

  #route(exchange: FrameExchange): void {
    switch (exchange.request.route) {
      case 'mcp':
      case 'sse':
      case 'messages': {
        const { route, serverIndex } = exchange.request
        const target = this.#parts.servers[serverIndex]
        const endpoint = route === 'mcp' ? target?.endpoint : target?.legacy
        if (endpoint === undefined) throw new RangeError(`no ${route} of server ${serverIndex}`)
        const work = (): void => endpoint.handle(exchange)
        const { allowance } = this.#parts
        if (allowance === undefined) work()
        else this.#rationed(exchange, allowance, work)
        return
      }
      case 'upload':
        this.#parts.uploads.handle(exchange)
        return
      case 'artifact':
        this.#parts.downloads.handle(exchange)
        return
      case 'hop':
        this.#parts.hop.handle(exchange)
    }
  }

  /** Does the work when the principal may make one more request. */
  #rationed(exchange: FrameExchange, allowance: RequestAllowance, work: () => void): void {
    const { principal } = exchange.request
    if (allowance.tryTake(principal)) {
      work()
      return
    }
    allowance.take(principal).then(
      (retryAfterMs) => {
        if (!exchange.isOpen) return
        if (retryAfterMs > 0) refuseRate(exchange, retryAfterMs)
        else this.#guarded(exchange, work)
      },
      (error: unknown) => fail(exchange, toAdapterError(error), null),
    )
  }
}
