/** The MCP endpoint of one server: POST, GET and DELETE of Streamable HTTP, with sessions or, from revision 2026-07-28, without. */
import type { Config, ServerConfig } from '../../shared/config/config.ts'
import { AdapterError } from '../../shared/errors.ts'
import type { AdapterServices } from '../adapters/adapter.ts'
import { isAdopted, lostUpstream } from '../session/handshake.ts'
import type { Handshake } from '../session/handshake.ts'
import type { SessionRegistry } from '../session/registry.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import type { PendingRewrite, Session } from '../session/session.ts'
import { upstreamHeaders, withoutHeader } from '../upstream/forwarded-headers.ts'
import type { Upstream } from '../upstream/upstream.ts'
import { idKey, toAdapterError } from './answer-sinks.ts'
import { refuseAmbiguity } from './ambiguity.ts'
import { classify } from './era.ts'
import type { Exchange } from './exchange.ts'
import { headerValue } from './exchange.ts'
import { ForwardedPost } from './forwarded-post.ts'
import { InitializePost } from './initialize-post.ts'
import { readEnvelope } from './json-rpc.ts'
import type { Envelope, Message, RequestId } from './json-rpc.ts'
import { Planner } from './plan.ts'
import { SAFE_METHODS } from './safe-methods.ts'
import { StandaloneStream } from './standalone-stream.ts'

const KEEP_ALIVE_INTERVAL_MS = 15_000

/** What an endpoint works with. */
export interface McpEndpointOptions {
  readonly server: ServerConfig
  readonly config: Config
  readonly services: AdapterServices
  readonly upstream: Upstream
  readonly registry: SessionRegistry
  readonly handshake: Handshake
  /** URL prefix for clients whose request has no Host. */
  readonly fallbackBaseUrl: string
}

/** See the file comment. One per worker and server. */
export class McpEndpoint {
  readonly #options: McpEndpointOptions
  readonly #planner: Planner
  readonly #hasOwnEvents: boolean
  /** Whether it matters which tool a call names. */
  readonly #hasPolicy: boolean
  readonly #streams = new Set<StandaloneStream>()
  readonly #listens = new Set<Exchange>()
  readonly #keepAlive: NodeJS.Timeout

  constructor(options: McpEndpointOptions) {
    this.#options = options
    this.#planner = new Planner(options.server, options.services)
    this.#hasOwnEvents = this.#planner.hasArtifacts
    const { disabledTools, adapters } = options.server
    this.#hasPolicy = disabledTools.length > 0 || adapters.length > 0
    this.#keepAlive = setInterval(() => {
      for (const stream of this.#streams) stream.keepAlive()
    }, KEEP_ALIVE_INTERVAL_MS)
    this.#keepAlive.unref()
  }

  handle(exchange: Exchange): void {
    switch (exchange.request.method) {
      case 'POST':
        this.#post(exchange)
        return
      case 'GET':
        this.#withSession(exchange, null, (session) => this.#openStream(exchange, session))
        return
      default:
        this.#withSession(exchange, null, (session) => void this.#delete(exchange, session))
    }
  }

  /** Ends long-lived streams, so that their clients go elsewhere. */
  closeStreams(): void {
    clearInterval(this.#keepAlive)
    for (const stream of this.#streams) stream.close()
    for (const exchange of this.#listens) exchange.end()
  }

  #post(exchange: Exchange): void {
    const { request } = exchange
    const body = request.body ?? ''
    let envelope: Envelope | undefined
    try {
      refuseEncoding(exchange)
      envelope = readEnvelope(body)
      if (this.#hasPolicy) refuseAmbiguity(body, envelope.isBatch)
      const era = classify(envelope, request.headers)
      if (era.kind === 'stateless') {
        this.#postStateless(exchange, era.message, body)
        return
      }
    } catch (error) {
      fail(exchange, toAdapterError(error), firstId(envelope))
      return
    }
    const [message] = envelope.messages
    const isInitialize = envelope.messages.some(
      (one) => one.kind === 'request' && one.method === 'initialize',
    )
    if (isInitialize && message?.kind === 'request' && !envelope.isBatch) {
      new InitializePost({ ...this.#options, exchange, request: message, body }).start()
      return
    }
    if (isInitialize) {
      fail(
        exchange,
        new AdapterError('ADAPTER_INVALID_REQUEST', 'initialize must not be part of a batch'),
        null,
      )
      return
    }
    const parsed = envelope
    this.#withSession(exchange, firstId(envelope), (session) =>
      this.#postInSession(exchange, session, parsed, body),
    )
  }

  /** Finds the request's session, at once when it is at hand. */
  #withSession(exchange: Exchange, id: RequestId | null, use: (session: Session) => void): void {
    const sessionId = headerValue(exchange.request.headers, 'mcp-session-id')
    const { server, registry } = this.#options
    if (sessionId === undefined) {
      fail(
        exchange,
        new AdapterError(
          'ADAPTER_SESSION_REQUIRED',
          'header mcp-session-id is missing: start with initialize',
        ),
        id,
      )
      return
    }
    const known = registry.peek(server.id, sessionId)
    if (known !== undefined && !isAdopted(known.record)) {
      use(known)
      return
    }
    this.#load(exchange, sessionId)
      .then((session) => {
        if (exchange.isOpen) use(session)
      })
      .catch((error: unknown) => fail(exchange, toAdapterError(error), id))
  }

  async #load(exchange: Exchange, sessionId: string): Promise<Session> {
    const { server, registry, handshake } = this.#options
    const session = await registry.find(server.id, sessionId)
    const needsUpstream = isAdopted(session.record) && exchange.request.method !== 'DELETE'
    if (needsUpstream && !(await handshake.reinitialise(session, exchange.request.headers, null))) {
      throw lostUpstream()
    }
    return session
  }

  #postInSession(
    exchange: Exchange,
    session: Session,
    envelope: Envelope,
    body: Uint8Array | string,
  ): void {
    const requests = envelope.messages.filter((message) => message.kind === 'request')
    if (requests.length > 0) {
      const limit = this.#options.config.sessions.maxInFlightPerSession
      if (limit !== null && session.inFlight + requests.length > limit) {
        fail(
          exchange,
          new AdapterError(
            'ADAPTER_IN_FLIGHT_LIMIT',
            `this session has sessions.max_in_flight_per_session (${limit}) requests under way`,
          ),
          firstId(envelope),
        )
        return
      }
      session.inFlight += requests.length
    }
    let isDone = false
    const done = (): void => {
      if (!isDone) session.inFlight -= requests.length
      isDone = true
    }
    if (!envelope.messages.some((message) => this.#planner.concerns(message))) {
      const rewrites = new Map<string, PendingRewrite>()
      this.#forward(exchange, session, { requests, body, rewrites, locals: [], done })
      return
    }
    this.#plan(exchange, session, envelope, body, requests, done).catch((error: unknown) => {
      done()
      fail(exchange, toAdapterError(error), firstId(envelope))
    })
  }

  async #plan(
    exchange: Exchange,
    session: Session,
    envelope: Envelope,
    body: Uint8Array | string,
    requests: readonly Extract<Message, { kind: 'request' }>[],
    done: () => void,
  ): Promise<void> {
    const baseUrl = this.#baseUrl(exchange)
    const outgoing: unknown[] = []
    const locals: JsonObject[] = []
    const answered = new Set<Message>()
    const rewrites = new Map<string, PendingRewrite>()
    let changed = false
    let sent = body
    try {
      for (const message of envelope.messages) {
        // In the client's order: they share quotas.
        const plan = this.#planner.concerns(message)
          ? await this.#planner.plan(message, session, baseUrl)
          : undefined
        if (plan === undefined || plan.kind === 'forward' || message.kind !== 'request') {
          outgoing.push(message.value)
        } else if (plan.kind === 'answer') {
          locals.push(plan.response)
          answered.add(message)
          changed = true
        } else {
          rewrites.set(idKey(message.id), plan.rewrite)
          changed ||= plan.params !== undefined
          outgoing.push(
            plan.params === undefined ? message.value : { ...message.value, params: plan.params },
          )
        }
      }
      if (changed)
        sent = Buffer.from(JSON.stringify(envelope.isBatch ? outgoing : outgoing[0]) ?? '')
    } catch (error) {
      for (const rewrite of rewrites.values()) rewrite.abandon()
      throw error
    }
    if (!exchange.isOpen) {
      done()
      for (const rewrite of rewrites.values()) rewrite.abandon()
      return
    }
    if (outgoing.length === 0) {
      done()
      exchange.respond(
        200,
        ['content-type', 'application/json'],
        JSON.stringify(envelope.isBatch ? locals : locals[0]),
      )
      return
    }
    const forwarded = requests.filter((request) => !answered.has(request))
    this.#forward(exchange, session, { requests: forwarded, body: sent, rewrites, locals, done })
  }

  #forward(
    exchange: Exchange,
    session: Session,
    sending: {
      requests: readonly Extract<Message, { kind: 'request' }>[]
      body: Uint8Array | string
      rewrites: Map<string, PendingRewrite>
      locals: readonly JsonObject[]
      done: () => void
    },
  ): void {
    const { server, upstream, config, handshake } = this.#options
    const { requests, body, rewrites, locals, done } = sending
    const received = exchange.request.headers
    // What will be rewritten must be readable.
    const extra = rewrites.size > 0 ? ['accept-encoding', 'identity'] : []
    let sentTo = session.record.upstreamSessionId
    new ForwardedPost({
      exchange,
      upstream,
      body,
      headers: () => {
        sentTo = session.record.upstreamSessionId
        return [...upstreamHeaders(received, server, sentTo), ...extra]
      },
      requestIds: requests.map((request) => request.id),
      isSafe: requests.length > 0 && requests.every((request) => SAFE_METHODS.has(request.method)),
      rewrites,
      locals,
      maxResponseBytes: config.core.maxResponseMessageBytes,
      timeoutMs: this.#timeoutMs(requests),
      recover:
        sentTo === null ? undefined : () => handshake.reinitialise(session, received, sentTo),
      recoveries: config.sessions.upstreamSessionTerminationRetries,
      onTimeout: () => {
        for (const { id } of requests) {
          const params = { requestId: id, reason: 'timed out in the gateway' }
          handshake.notifyUpstream(
            session,
            { jsonrpc: '2.0', method: 'notifications/cancelled', params },
            received,
          )
        }
      },
      suspend: (key, rewrite) => session.suspend(key, rewrite),
      done,
    }).start()
  }

  /** Time-outs apply to tool calls; adapters of a tool may set their own. */
  #timeoutMs(requests: readonly Extract<Message, { kind: 'request' }>[]): number | null {
    const [request] = requests
    if (request === undefined || requests.length !== 1 || request.method !== 'tools/call')
      return null
    const { server } = this.#options
    const name = request.params?.['name']
    const adapter = server.adapters.find(
      (one) => typeof name === 'string' && one.tools.includes(name),
    )
    const seconds = (adapter ?? server).toolCallTimeoutSeconds
    return seconds === null ? null : seconds * 1_000
  }

  #postStateless(exchange: Exchange, message: Message, body: Uint8Array | string): void {
    const { server, upstream, config } = this.#options
    const requests = message.kind === 'request' ? [message] : []
    const [request] = requests
    const name = request?.method === 'tools/call' ? request.params?.['name'] : undefined
    if (typeof name === 'string' && this.#planner.isDisabled(name)) {
      const refusal = { code: -32602, message: `Unknown tool: ${name}` }
      const answer = { jsonrpc: '2.0', id: request?.id, error: refusal }
      exchange.respond(200, ['content-type', 'application/json'], JSON.stringify(answer))
      return
    }
    if (typeof name === 'string' && this.#planner.wraps(name)) {
      const error = new AdapterError(
        'ADAPTER_ERA_UNSUPPORTED',
        `tool ${name} moves files through this gateway, which it can do only in a session so far: connect with revision 2025-11-25`,
      )
      fail(exchange, error, request?.id ?? null)
      return
    }
    const rewrite =
      request === undefined ? undefined : this.#planner.statelessRewrite(request.method)
    const isListen = request?.method === 'subscriptions/listen'
    if (isListen) this.#listens.add(exchange)
    new ForwardedPost({
      exchange,
      upstream,
      body,
      headers: () => upstreamHeaders(exchange.request.headers, server, null),
      requestIds: requests.map(({ id }) => id),
      isSafe: request !== undefined && SAFE_METHODS.has(request.method),
      rewrites: new Map(
        rewrite === undefined || request === undefined ? [] : [[idKey(request.id), rewrite]],
      ),
      locals: [],
      maxResponseBytes: config.core.maxResponseMessageBytes,
      timeoutMs: this.#timeoutMs(requests),
      recover: undefined,
      recoveries: 0,
      // Cutting the connection is how this revision cancels.
      onTimeout: () => {},
      suspend: undefined,
      done: () => this.#listens.delete(exchange),
    }).start()
  }

  #openStream(exchange: Exchange, session: Session): void {
    const { server, upstream, config, handshake } = this.#options
    const received = exchange.request.headers
    let sentTo = session.record.upstreamSessionId
    const stream = new StandaloneStream({
      exchange,
      session,
      upstream,
      resumes: headerValue(received, 'last-event-id') !== undefined,
      headers: (resumes) => {
        sentTo = session.record.upstreamSessionId
        const kept = resumes ? received : withoutHeader(received, 'last-event-id')
        return upstreamHeaders(kept, server, sentTo)
      },
      hasOwnEvents: this.#hasOwnEvents,
      maxEventBytes: config.core.maxResponseMessageBytes,
      recover: () => handshake.reinitialise(session, received, sentTo),
      recoveries: config.sessions.upstreamSessionTerminationRetries,
      done: () => this.#streams.delete(stream),
    })
    this.#streams.add(stream)
    stream.start()
  }

  async #delete(exchange: Exchange, session: Session): Promise<void> {
    const { registry, handshake, services } = this.#options
    try {
      await registry.close(session)
      exchange.respond(200, [])
      for (const stream of this.#streams) if (stream.belongsTo(session)) stream.close()
      await handshake.endUpstream(session.record, exchange.request.headers)
      await services.files.removeSession(session.key)
    } catch (error) {
      fail(exchange, toAdapterError(error), null)
    }
  }

  #baseUrl(exchange: Exchange): string {
    const { publicBaseUrl } = this.#options.config.core
    if (publicBaseUrl !== null) return publicBaseUrl
    // The primary let only acceptable Host names through.
    const host = headerValue(exchange.request.headers, 'host')
    return host === undefined || host === '' ? this.#options.fallbackBaseUrl : `http://${host}`
  }
}

function refuseEncoding(exchange: Exchange): void {
  const encoding = headerValue(exchange.request.headers, 'content-encoding')
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    throw new AdapterError(
      'ADAPTER_UNSUPPORTED_MEDIA_TYPE',
      'content-encoding is not supported: send the JSON as it is',
    )
  }
}

function firstId(envelope: Envelope | undefined): RequestId | null {
  const request = envelope?.messages.find((message) => message.kind === 'request')
  return request?.kind === 'request' && envelope?.isBatch === false ? request.id : null
}

function fail(exchange: Exchange, error: AdapterError, id: RequestId | null): void {
  const retryAfter = error.status === 503 || error.status === 429 ? ['retry-after', '1'] : []
  exchange.respond(
    error.status,
    ['content-type', 'application/json', ...retryAfter],
    error.toJsonRpc(id),
  )
}
