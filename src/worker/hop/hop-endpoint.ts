/** Does what other replicas and workers ask for of the connections that are here, and hands the answers back at their pace. */
import { timingSafeEqual } from 'node:crypto'

import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { headerValue } from '../../shared/frames/header-list.ts'
import { digestIn, digestOf, OUTCOME_HEADER, SEAL_HEADER } from '../../shared/hop-seal.ts'
import type { HopOutcome } from '../../shared/hop-seal.ts'
import { decodeHopRequest } from '../../shared/hop-request.ts'
import type { HopRequest, ReadHopRequest } from '../../shared/hop-request.ts'
import type { Exchange, RequestHead } from '../exchange/exchange.ts'
import type { AnswerListener, Upstream, UpstreamCall } from '../upstream/upstream.ts'
import type { HopEvents } from './hop-events.ts'
import { HopExchange } from './hop-exchange.ts'

/** Takes messages of legacy clients. */
export interface LegacyReceiver {
  /** Index into `config.servers`. */
  readonly serverIndex: number
  readonly handle: (exchange: Exchange) => void
}

/** What an endpoint works with. */
export interface HopEndpointParts {
  /** This worker's own connections to a server; undefined for one whose sessions are bound to none. */
  readonly upstreamOf: (serverId: string) => Upstream | undefined
  /** What takes messages of the legacy clients of a server whose streams are here; undefined where there are none. */
  readonly legacyOf: (serverId: string) => LegacyReceiver | undefined
  /** Undefined where nobody counts. */
  readonly events?: HopEvents | undefined
  /** Told of an error of ours that answers a message; undefined where nobody counts. */
  readonly onRefusal?: ((request: RequestHead, error: AdapterError) => void) | undefined
}

/** See the file comment. The primary has judged who asks, by the head of the request. */
export class HopEndpoint {
  readonly #parts: HopEndpointParts
  /** Answers that last for as long as somebody wants them. */
  readonly #streams = new Set<RelayedAnswer>()
  /** Answers that are under way, by the names of their calls. */
  readonly #named = new Map<string, RelayedAnswer>()
  #isDraining = false

  constructor(parts: HopEndpointParts) {
    this.#parts = parts
  }

  handle(exchange: Exchange): void {
    const read = readRequest(exchange)
    if (read === undefined) {
      const error = new AdapterError('ADAPTER_UNAUTHORIZED', 'only for replicas')
      exchange.respond(error.status, ['content-type', 'application/json'], error.toJson())
      return
    }
    const { request, body } = read
    if (request.kind === 'messages') {
      this.#takeMessage(exchange, request, body)
      return
    }
    if (request.kind === 'silence') {
      this.#named.get(request.call)?.giveUp(request.waitedMs)
      exchange.respond(200, [OUTCOME_HEADER, 'answer' satisfies HopOutcome])
      return
    }
    const upstream = this.#parts.upstreamOf(request.serverId)
    const isStream = request.method === 'GET'
    if (upstream === undefined) {
      answerError(
        exchange,
        new AdapterError(
          'ADAPTER_UPSTREAM_UNREACHABLE',
          'the replica that holds this session has no such server any more',
        ),
      )
      return
    }
    if (isStream && this.#isDraining) {
      answerError(
        exchange,
        new AdapterError('ADAPTER_STOPPING', 'the replica that holds this session is stopping'),
      )
      return
    }
    const { call } = request
    const relayed = new RelayedAnswer(exchange, this.#parts.events, () => {
      this.#streams.delete(relayed)
      if (call !== undefined) this.#named.delete(call)
    })
    if (isStream) this.#streams.add(relayed)
    else if (call !== undefined) this.#named.set(call, relayed)
    const { method, headers, isSafe, isFollowUp } = request
    relayed.follow(upstream.call({ method, headers, body, isSafe, isFollowUp }, relayed))
  }

  #takeMessage(
    exchange: Exchange,
    request: Extract<HopRequest, { kind: 'messages' }>,
    body: Uint8Array | null,
  ): void {
    const receiver = this.#parts.legacyOf(request.serverId)
    if (receiver === undefined) {
      answerError(
        exchange,
        new AdapterError('ADAPTER_SESSION_UNKNOWN', 'no stream with this sessionId is open'),
      )
      return
    }
    const { headers, target, principal, correlationId } = request
    const { serverIndex } = receiver
    const head = {
      route: 'messages',
      serverIndex,
      method: 'POST',
      target,
      headers,
      body,
      principal,
      ...(correlationId === undefined ? {} : { correlationId }),
    } as const
    receiver.handle(new HopExchange(exchange, head, this.#parts.onRefusal))
  }

  /** Ends streams, which would hold up the stop, and begins no more. */
  closeStreams(): void {
    this.#isDraining = true
    for (const relayed of this.#streams) relayed.close()
  }
}

/** An answer of a connection here on its way to who asked for it. */
class RelayedAnswer implements AnswerListener {
  readonly #exchange: Exchange
  readonly #events: HopEvents | undefined
  readonly #onDone: () => void
  readonly #startedAtMs = performance.now()
  #call: UpstreamCall | undefined
  #hasHead = false

  constructor(exchange: Exchange, events: HopEvents | undefined, onDone: () => void) {
    this.#exchange = exchange
    this.#events = events
    this.#onDone = onDone
  }

  follow(call: UpstreamCall): void {
    this.#call = call
    this.#exchange.onAbort(() => {
      call.abort()
      this.#onDone()
    })
    this.#exchange.onDrain(() => call.resume())
  }

  /** Whoever asked has waited in vain, and is about to leave. */
  giveUp(waitedMs: number): void {
    this.#call?.abort(waitedMs)
  }

  head(status: number, headers: HeaderList): void {
    this.#hasHead = true
    this.#events?.answered('in', (performance.now() - this.#startedAtMs) / 1_000)
    this.#events?.ended('in', 'success')
    this.#exchange.begin(status, [...headers, OUTCOME_HEADER, 'answer' satisfies HopOutcome])
  }

  data(chunk: Uint8Array): void {
    if (!this.#exchange.write(chunk)) this.#call?.pause()
  }

  end(): void {
    this.#exchange.end()
    this.#onDone()
  }

  error(error: AdapterError): void {
    if (this.#hasHead) this.#exchange.reset()
    else {
      this.#events?.ended('in', 'error')
      answerError(this.#exchange, error)
    }
    this.#onDone()
  }

  /** Ends the answer in order, whatever would still come. */
  close(): void {
    this.#call?.abort()
    if (this.#hasHead) this.end()
    else this.error(new AdapterError('ADAPTER_STOPPING', 'the replica is stopping'))
  }
}

/** What is asked for; undefined when it is not what was signed. */
function readRequest({ request }: Exchange): ReadHopRequest | undefined {
  const { body } = request
  if (body === null) return undefined
  const bytes = typeof body === 'string' ? Buffer.from(body, 'latin1') : body
  const signed = Buffer.from(digestIn(headerValue(request.headers, SEAL_HEADER) ?? ''))
  const actual = Buffer.from(digestOf(bytes))
  const isSigned = signed.byteLength === actual.byteLength && timingSafeEqual(signed, actual)
  return isSigned ? decodeHopRequest(bytes) : undefined
}

function answerError(exchange: Exchange, error: AdapterError): void {
  const { code, message, retryAfterSeconds } = error
  exchange.respond(
    error.status,
    ['content-type', 'application/json', OUTCOME_HEADER, 'error' satisfies HopOutcome],
    JSON.stringify({ code, message, retryAfterSeconds }),
  )
}
