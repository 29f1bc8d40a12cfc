/** A client's `initialize`: the one request that makes a session. The answer's head waits until the session is stored, as it carries the id. */
import type { Config, ServerConfig } from '../../shared/config/config.ts'
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { headerValue } from '../../shared/frames/header-list.ts'
import { ANONYMOUS } from '../../shared/principals.ts'
import { SseSplitter } from '../../shared/sse-splitter.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import { shapeInitialize } from '../catalogue/shape.ts'
import type { Handshake } from '../session/handshake.ts'
import { isRooted, withRoots } from '../session/rooted.ts'
import { upstreamHeaders, withoutHeader } from '../upstream/forwarded-headers.ts'
import type { AnswerListener, Upstream, UpstreamCall } from '../upstream/upstream.ts'
import { isEventStream, isJson } from './media-type.ts'
import { credentialRefusal } from './credential-refusal.ts'
import { RawSink } from './raw-sink.ts'
import type { Watched } from './raw-sink.ts'
import type { ListWatch } from './list-watch.ts'
import { toAdapterError } from './adapter-error.ts'
import type { AnswerSink } from './answer-sink.ts'
import type { Exchange } from './exchange.ts'
import { fail } from './failure.ts'
import { isObject, parseJson } from './json-rpc.ts'
import type { Message } from './json-rpc.ts'
import { messageOf, withEventData } from './sse.ts'

/** Largest answer to `initialize`, in bytes. */
const MAX_BYTES = 4_194_304

/** What surrounds an `initialize`. */
export interface InitializePostOptions {
  readonly exchange: Exchange
  readonly request: Extract<Message, { kind: 'request' }>
  readonly body: Uint8Array | string
  /** Looks at what comes with the answer and after it; undefined where that can do no harm. */
  readonly watch: ListWatch | undefined
  readonly server: ServerConfig
  readonly config: Config
  readonly upstream: Upstream
  readonly handshake: Handshake
}

/** See the file comment. */
export class InitializePost implements AnswerListener {
  readonly #options: InitializePostOptions
  readonly #splitter = new SseSplitter(MAX_BYTES)
  readonly #timer: NodeJS.Timeout
  #call: UpstreamCall | undefined
  #head: { status: number; headers: HeaderList } | undefined
  #sink: AnswerSink | undefined
  /** JSON: the body so far. Event stream: events that wait for the head. */
  #held: Uint8Array[] = []
  #heldBytes = 0
  #phase: 'collecting' | 'opening' | 'relaying' | 'over' = 'collecting'
  #ended = false

  constructor(options: InitializePostOptions) {
    this.#options = options
    this.#timer = setTimeout(
      () => this.#timedOut(),
      options.server.upstream.initializeTimeoutSeconds * 1_000,
    )
  }

  start(): void {
    const { exchange, upstream, server } = this.#options
    exchange.onAbort(() => this.#clientGone())
    const headers = [
      ...upstreamHeaders(exchange.request.headers, server, null),
      'accept-encoding',
      'identity',
    ]
    const body = this.#bodyToSend()
    this.#call = upstream.call({ method: 'POST', headers, body, isSafe: false }, this)
  }

  head(status: number, headers: HeaderList): void {
    this.#head = { status, headers }
    if (status === 200 && (isJson(headers) || isEventStream(headers))) return
    const refusal = credentialRefusal(status, this.#options.server)
    if (refusal !== undefined) {
      this.#call?.abort()
      this.#fail(refusal)
      return
    }
    this.#endStray()
    this.#relay(withoutHeader(headers, 'mcp-session-id'))
  }

  data(chunk: Uint8Array): void {
    if (this.#phase === 'over') return
    if (this.#sink !== undefined) {
      this.#sink.data(chunk)
      return
    }
    this.#heldBytes += chunk.byteLength
    if (this.#heldBytes > MAX_BYTES) {
      this.#call?.abort()
      this.#fail(
        new AdapterError(
          'ADAPTER_UPSTREAM_INVALID',
          'the upstream server answered initialize with too much data',
        ),
      )
      return
    }
    if (
      this.#phase === 'opening' ||
      this.#head === undefined ||
      !isEventStream(this.#head.headers)
    ) {
      this.#held.push(new Uint8Array(chunk))
      return
    }
    for (const event of this.#splitter.push(chunk)) this.#takeEvent(event)
  }

  end(): void {
    this.#ended = true
    if (this.#sink !== undefined) {
      this.#phase = 'over'
      clearTimeout(this.#timer)
      this.#sink.end()
    } else if (this.#phase === 'collecting') this.#takeJson()
  }

  error(error: AdapterError): void {
    if (this.#phase === 'over') return
    // The answer is here already: only what would follow it is missing.
    if (this.#phase === 'opening') this.#ended = true
    else if (this.#sink === undefined) this.#fail(error)
    else this.#sink.error(error)
  }

  /** The client's own, but for what it says of roots where the session's directory is the only one. */
  #bodyToSend(): Uint8Array | string {
    const { request, server, body } = this.#options
    if (!isRooted(server) || request.params === undefined) return body
    return Buffer.from(
      JSON.stringify({ ...request.value, params: withRoots(server, request.params) }),
    )
  }

  #takeEvent(event: Uint8Array): void {
    const message = this.#phase === 'collecting' ? messageOf(event) : undefined
    const isAnswer =
      message !== undefined &&
      message['method'] === undefined &&
      message['id'] === this.#options.request.id
    if (!isAnswer || !isObject(message['result'])) {
      this.#held.push(event)
      // An error answers the request too: there is no session, and nothing to wait for.
      if (isAnswer) this.#relayStray()
      return
    }
    const before = this.#held
    this.#held = []
    void this.#open(message, message['result'], (shaped) => [
      ...before,
      withEventData(event, JSON.stringify(shaped)),
    ])
  }

  #takeJson(): void {
    const body = Buffer.concat(this.#held)
    this.#held = []
    if (this.#head === undefined) return
    if (isEventStream(this.#head.headers)) {
      // The stream ended without an answer: hand on what there was.
      this.#held = [body]
      this.#relayStray()
      return
    }
    let message: unknown
    try {
      message = parseJson(body)
    } catch {
      this.#fail(
        new AdapterError(
          'ADAPTER_UPSTREAM_INVALID',
          'the upstream server answered initialize with something that is not JSON',
        ),
      )
      return
    }
    if (isObject(message) && isObject(message['result'])) {
      void this.#open(message, message['result'], (shaped) => [Buffer.from(JSON.stringify(shaped))])
      return
    }
    this.#held = [body]
    this.#relayStray()
  }

  async #open(
    message: JsonObject,
    result: JsonObject,
    pieces: (shaped: JsonObject) => Uint8Array[],
  ): Promise<void> {
    this.#phase = 'opening'
    clearTimeout(this.#timer)
    const { exchange, request, server, config, handshake } = this.#options
    const { headers = [] } = this.#head ?? {}
    const { principal } = exchange.request
    try {
      const shaped = shapeInitialize(result, server, config)
      const opening = {
        serverId: server.id,
        ...(principal === ANONYMOUS ? {} : { principal }),
        protocolVersion:
          typeof result['protocolVersion'] === 'string' ? result['protocolVersion'] : 'unknown',
        upstreamSessionId: headerValue(headers, 'mcp-session-id') ?? null,
        initializeParams: request.params ?? {},
        upstreamHas: shaped.upstreamHas,
      }
      if (!exchange.isOpen) {
        this.#call?.abort()
        await handshake.endUpstream(opening, exchange.request.headers)
        return
      }
      const session = await handshake.open(opening, exchange.request.headers)
      if (!exchange.isOpen) {
        // Nobody will ever know its id.
        this.#call?.abort()
        await handshake.close(session, exchange.request.headers)
        return
      }
      this.#held = [...pieces({ ...message, result: shaped.result }), ...this.#held]
      this.#relayHeld([
        ...withoutHeader(headers, 'mcp-session-id'),
        'mcp-session-id',
        session.key.sessionId,
      ])
    } catch (error) {
      this.#call?.abort()
      this.#fail(toAdapterError(error))
    }
  }

  /** Hands on an answer that makes no session. */
  #relayStray(): void {
    this.#endStray()
    this.#relayHeld(withoutHeader(this.#head?.headers ?? [], 'mcp-session-id'))
  }

  /** An upstream that gave an id may keep a session for it, which nobody will ever use. */
  #endStray(): void {
    const { exchange, request, server, handshake } = this.#options
    const upstreamSessionId = headerValue(this.#head?.headers ?? [], 'mcp-session-id')
    if (upstreamSessionId === undefined) return
    const asked = request.params?.['protocolVersion']
    const protocolVersion = typeof asked === 'string' ? asked : 'unknown'
    const stray = { serverId: server.id, protocolVersion, upstreamSessionId }
    void handshake.endUpstream(stray, exchange.request.headers)
  }

  /** Sends what waited, then goes on with the rest of the stream, if there is one. */
  #relayHeld(headers: HeaderList): void {
    const { exchange } = this.#options
    const held = this.#held
    this.#held = []
    if (this.#ended) {
      const body = Buffer.concat(held)
      try {
        const { watch } = this.#options
        if (watch?.scanner(headers).push(body) === true) throw watch.found()
      } catch (error) {
        this.#fail(toAdapterError(error))
        return
      }
      this.#phase = 'over'
      clearTimeout(this.#timer)
      exchange.respond(this.#head?.status ?? 200, headers, body)
      return
    }
    this.#relay(headers)
    for (const piece of held) this.#sink?.data(piece)
  }

  #relay(headers: HeaderList): void {
    clearTimeout(this.#timer)
    this.#phase = 'relaying'
    if (this.#call === undefined) return
    if (!this.#options.exchange.isOpen) {
      this.#phase = 'over'
      this.#call.abort()
      return
    }
    const head = { status: this.#head?.status ?? 502, headers }
    const { watch } = this.#options
    let watched: Watched | undefined
    try {
      watched = watch && { watch, scanner: watch.scanner(headers) }
    } catch (error) {
      this.#call.abort()
      this.#fail(toAdapterError(error))
      return
    }
    this.#sink = new RawSink(
      this.#options.exchange,
      head,
      this.#call,
      () => this.#options.exchange.reset(),
      { watched },
    )
  }

  #fail(error: AdapterError): void {
    // While it is being opened, whoever opens it ends it.
    if (this.#phase === 'collecting') this.#endStray()
    this.#phase = 'over'
    clearTimeout(this.#timer)
    const { exchange, request } = this.#options
    fail(exchange, error, request.id)
  }

  #timedOut(): void {
    this.#call?.abort(this.#options.server.upstream.initializeTimeoutSeconds * 1_000)
    this.#fail(
      new AdapterError(
        'ADAPTER_UPSTREAM_TIMEOUT',
        `the upstream server did not answer initialize within ${this.#options.server.upstream.initializeTimeoutSeconds} s`,
      ),
    )
  }

  /** Before the answer, the upstream may be opening a session that has to be ended: its id is waited for. */
  #clientGone(): void {
    if (this.#phase !== 'relaying') return
    this.#phase = 'over'
    clearTimeout(this.#timer)
    this.#call?.abort()
  }
}
