/** The MCP endpoint of one server: POST, GET and DELETE of Streamable HTTP, with sessions or, from revision 2026-07-28, without. */
import type { Config, ServerConfig } from '../../shared/config/config.ts'
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { headerValue } from '../../shared/frames/header-list.ts'
import type { Log } from '../../shared/log.ts'
import { NOT_RECORDING } from '../../shared/telemetry/recorder.ts'
import type { Recorder } from '../../shared/telemetry/recorder.ts'
import type { AdapterServices } from '../adapters/adapter.ts'
import { isUpstreamTool } from '../catalogue/offered.ts'
import { CallMetrics } from '../metrics/call-metrics.ts'
import { ServerMetrics } from '../metrics/server-metrics.ts'
import { CodeMode } from '../code-mode/code-mode.ts'
import type { SandboxPool } from '../code-mode/sandbox-pool.ts'
import { isAdopted, lostUpstream } from '../session/handshake.ts'
import type { Handshake } from '../session/handshake.ts'
import { rateError, refuseRate } from '../session/request-allowance.ts'
import type { RequestAllowance } from '../session/request-allowance.ts'
import type { SessionRegistry } from '../session/registry.ts'
import type { Session } from '../session/session.ts'
import type { RootAnswers } from '../stream/root-answers.ts'
import type { StreamHolder } from '../stream/stream-holder.ts'
import type { CallTracer } from '../tracing/call-tracer.ts'
import { upstreamHeaders, withoutHeader } from '../upstream/forwarded-headers.ts'
import type { Upstream } from '../upstream/upstream.ts'
import { toAdapterError } from './adapter-error.ts'
import { refuseAmbiguity } from './ambiguity.ts'
import { classify } from './era.ts'
import type { Era } from './era.ts'
import { answerEndedStream } from './ended-stream.ts'
import type { Exchange } from './exchange.ts'
import { fail, firstId } from './failure.ts'
import { InitializePost } from './initialize-post.ts'
import { readEnvelope } from './json-rpc.ts'
import type { Envelope, Message, RequestId } from './json-rpc.ts'
import type { Listings } from './listings.ts'
import { Planner } from './plan.ts'
import { refuseEncoding } from './content-encoding.ts'
import { OwnedEventIds } from './owned-event-ids.ts'
import { withRelayedIds } from './relayed-ids.ts'
import { SessionPosts } from './session-posts.ts'
import { StandaloneStream } from './standalone-stream.ts'
import type { StandaloneStreamOptions } from './standalone-stream.ts'
import { StatelessPosts } from './stateless-posts.ts'
import { ToolGuard } from './tool-guard.ts'
import { listAllTools } from './tool-listing.ts'
import { ToolLists } from './tool-lists.ts'

const KEEP_ALIVE_INTERVAL_MS = 15_000

/** Most characters of a name of the client's that the primary hears of, which cuts it further when it is redacted. */
const MAX_NOTE_CHARS = 4_096

/** What an endpoint works with. */
export interface McpEndpointOptions {
  readonly server: ServerConfig
  readonly config: Config
  readonly services: AdapterServices
  readonly upstream: Upstream
  readonly registry: SessionRegistry
  readonly handshake: Handshake
  readonly streams: StreamHolder
  /** Undefined where no listing is kept. */
  readonly listings?: Listings | undefined
  /** Answers for upstreams that have the session's directory for their root; undefined where there are none. */
  readonly roots: RootAnswers | undefined
  /** Where things are counted; by default nowhere. */
  readonly recorder?: Recorder
  readonly log: Log
  /** Undefined while calls are not traced. */
  readonly tracer?: CallTracer | undefined
  /** Where the scripts of code mode run; undefined where no server has code mode. */
  readonly sandboxes: SandboxPool | undefined
  /** What clients may request; undefined without a limit. A request over HTTP has taken one before it gets here. */
  readonly allowance?: RequestAllowance | undefined
  /** URL prefix for clients whose request has no Host. */
  readonly fallbackBaseUrl: string
}

/** A POST that was read. */
interface ReceivedPost {
  readonly exchange: Exchange
  readonly envelope: Envelope
  readonly body: Uint8Array | string
  readonly era: Era
}

/** See the file comment. One per worker and server. */
export class McpEndpoint {
  readonly #options: McpEndpointOptions
  readonly #sessionPosts: SessionPosts
  readonly #statelessPosts: StatelessPosts
  readonly #planner: Planner
  readonly #codeMode: CodeMode | undefined
  /** Whether it matters which tool a call names. */
  readonly #hasPolicy: boolean
  /** Whether there is a log line for each request. */
  readonly #notes: boolean
  readonly #streams = new Set<StandaloneStream>()
  readonly #keepAlive: NodeJS.Timeout
  readonly #metrics: ServerMetrics
  #isLeaving = false

  constructor(options: McpEndpointOptions) {
    this.#options = options
    const { server, config, services, log, recorder = NOT_RECORDING } = options
    const metrics = new ServerMetrics(server, recorder)
    this.#metrics = metrics
    const guard = new ToolGuard({
      server,
      onDrift: () => metrics.drifted(),
      onInvalidated: () => metrics.invalidated(),
      store: services.store,
      log,
      isShown: (name) => isUpstreamTool(server, config, name),
      listAll: (session, received) => listAllTools(session, received, options),
      // Who waits to be told must not wait for the upstream too.
      endSession: (session, received) =>
        new Promise((resolve, reject) => {
          this.#end(session, received, resolve).catch(reject)
        }),
    })
    const toolLists = new ToolLists({
      server,
      config,
      log,
      guard,
      onLook: (isKnown) => metrics.looked('tool_list', isKnown),
    })
    const planner = new Planner(server, services, toolLists)
    this.#planner = planner
    const calls = new CallMetrics(server, recorder)
    this.#sessionPosts = new SessionPosts(planner, { ...options, calls })
    this.#statelessPosts = new StatelessPosts(planner, { ...options, calls })
    const { disabledTools, adapters, codeModeEnabled } = server
    this.#hasPolicy =
      disabledTools.length > 0 ||
      adapters.length > 0 ||
      codeModeEnabled ||
      guard.blocks ||
      planner.isRooted
    this.#notes = config.core.logLevel === 'debug'
    const { sandboxes } = options
    this.#codeMode =
      codeModeEnabled && sandboxes !== undefined
        ? new CodeMode(server, config, sandboxes, (principal) => this.#ration(principal))
        : undefined
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
        this.#withSession(exchange, null, (session) =>
          this.#openStream(this.#owned(exchange, session), session),
        )
        return
      default:
        this.#withSession(exchange, null, (session) => void this.#delete(exchange, session))
    }
  }

  /** Ends long-lived streams, and those that are asked for from here on, so that their clients go elsewhere. The `StreamHolder` ends those it holds. */
  closeStreams(): void {
    this.#isLeaving = true
    clearInterval(this.#keepAlive)
    for (const stream of this.#streams) if (!stream.isHeld) stream.close()
    this.#statelessPosts.closeListens()
  }

  /** Ends a session as its DELETE does. Resolves when the upstream knows, too, and its files are gone. Rejects with ADAPTER_SESSION_UNKNOWN. */
  async endSession(sessionId: string, principal: string, received: HeaderList): Promise<void> {
    const { server, registry } = this.#options
    await this.#end(await registry.find(server.id, sessionId, principal), received)
  }

  #post(received: Exchange): void {
    const { request } = received
    let exchange = received
    let body = request.body ?? ''
    let envelope: Envelope | undefined
    let era: Era
    try {
      refuseEncoding(request.headers)
      envelope = readEnvelope(body)
      if (this.#notes) note(exchange, envelope)
      const { tracer, server } = this.#options
      if (tracer !== undefined) {
        ;({ exchange, envelope, body } = tracer.trace({ exchange, envelope, body }, server))
      }
      if (this.#hasPolicy) {
        refuseAmbiguity(body, envelope.isBatch)
        envelope.messages.forEach(refuseNamelessCall)
      }
      era = classify(envelope, request.headers)
    } catch (error) {
      fail(exchange, toAdapterError(error), firstId(envelope))
      return
    }
    const whole = { exchange, envelope, body, era }
    const { allowance } = this.#options
    const { length } = envelope.messages
    if (allowance === undefined || length === 1) {
      this.#take(whole)
      return
    }
    // Each message of a batch costs what it would cost alone.
    allowance
      .takeRest(request.principal, length)
      .then((retryAfterMs) => {
        if (!exchange.isOpen) return
        if (retryAfterMs > 0) refuseRate(exchange, retryAfterMs)
        else this.#take(whole)
      })
      .catch((error: unknown) => fail(exchange, toAdapterError(error), null))
  }

  #take({ exchange, envelope, body, era }: ReceivedPost): void {
    if (era.kind === 'stateless') {
      this.#takeStateless(exchange, envelope, era.message, body)
      return
    }
    const [message] = envelope.messages
    const isInitialize = envelope.messages.some(
      (one) => one.kind === 'request' && one.method === 'initialize',
    )
    if (isInitialize && message?.kind === 'request' && !envelope.isBatch) {
      const watch = this.#planner.watch([message])
      new InitializePost({ ...this.#options, watch, exchange, request: message, body }).start()
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
    this.#withSession(exchange, firstId(envelope), (session) =>
      this.#takeInSession(this.#owned(exchange, session), session, envelope, body),
    )
  }

  /** An upstream with sessions knows whose an event is. */
  #owned(exchange: Exchange, { key, record }: Session): Exchange {
    if (record.upstreamSessionId !== null) return exchange
    return new OwnedEventIds(exchange, { signer: this.#options.services.signer, key })
  }

  /** Counts a call that a script makes; rejects when it may not be made now. */
  async #ration(principal: string): Promise<void> {
    const retryAfterMs = (await this.#options.allowance?.take(principal)) ?? 0
    if (retryAfterMs > 0) throw rateError(retryAfterMs)
  }

  #takeStateless(
    exchange: Exchange,
    envelope: Envelope,
    message: Message,
    body: Uint8Array | string,
  ): void {
    const isTaken = this.#codeMode?.take(exchange, envelope, {
      owner: null,
      take: (inner, { messages: [one = message] }, bytes) =>
        this.#statelessPosts.take(inner, one, bytes),
      hold: () => () => {},
    })
    if (isTaken !== true) this.#statelessPosts.take(exchange, message, body)
  }

  #takeInSession(
    exchange: Exchange,
    session: Session,
    envelope: Envelope,
    body: Uint8Array | string,
  ): void {
    const isTaken = this.#codeMode?.take(exchange, envelope, {
      owner: session.key.sessionId,
      take: (inner, one, bytes) => this.#sessionPosts.take(inner, session, one, bytes),
      hold: () => {
        session.streams++
        return () => session.streams--
      },
    })
    if (isTaken !== true) this.#sessionPosts.take(exchange, session, envelope, body)
  }

  /** Finds the request's session, at once when it is at hand. */
  #withSession(exchange: Exchange, id: RequestId | null, use: (session: Session) => void): void {
    const sessionId = headerValue(exchange.request.headers, 'mcp-session-id')
    const { server, registry } = this.#options
    const { principal } = exchange.request
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
    const known = registry.peek(server.id, sessionId, principal)
    const isAtHand = known !== undefined && !isAdopted(known.record)
    this.#metrics.sessionLooked(isAtHand)
    if (isAtHand) {
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
    const session = await registry.find(server.id, sessionId, exchange.request.principal)
    const needsUpstream = isAdopted(session.record) && exchange.request.method !== 'DELETE'
    if (needsUpstream && !(await handshake.reinitialise(session, exchange.request.headers, null))) {
      throw lostUpstream()
    }
    return session
  }

  #openStream(exchange: Exchange, session: Session): void {
    if (this.#isLeaving) {
      answerEndedStream(exchange)
      return
    }
    const { server, upstream, config, handshake, streams } = this.#options
    const received = exchange.request.headers
    let sentTo = session.record.upstreamSessionId
    const stream = new StandaloneStream({
      exchange,
      server,
      session,
      upstream,
      streams,
      lastEventId: headerValue(received, 'last-event-id'),
      orphanRewrite: this.#planner.orphanRewrite(session, received),
      strayRewrite: this.#planner.strayRewrite(session, received),
      watch: this.#planner.watch([]),
      headers: (resumes) => {
        sentTo = session.record.upstreamSessionId
        const kept = resumes ? received : withoutHeader(received, 'last-event-id')
        return upstreamHeaders(kept, server, sentTo)
      },
      hasOwnEvents: this.#planner.hasArtifacts,
      rooted: this.#rooted(session, received),
      maxEventBytes: config.core.maxResponseMessageBytes,
      recover: () => handshake.reinitialise(session, received, sentTo),
      recoveries: config.sessions.upstreamSessionTerminationRetries,
      done: () => this.#streams.delete(stream),
    })
    this.#streams.add(stream)
    stream.start()
  }

  #rooted(session: Session, received: HeaderList): StandaloneStreamOptions['rooted'] {
    const { server, upstream, roots, services } = this.#options
    if (roots === undefined || !this.#planner.isRooted) return undefined
    return {
      intercept: (event) =>
        roots.take(event, upstream, { server, record: session.record, received }),
      relay: (event) => withRelayedIds(event, services.signer, session.key),
    }
  }

  async #delete(exchange: Exchange, session: Session): Promise<void> {
    try {
      await this.#end(session, exchange.request.headers, () => exchange.respond(200, []))
    } catch (error) {
      fail(exchange, toAdapterError(error), null)
    }
  }

  /** Ends a session everywhere; `onEnded` is called once nobody can use it any more. */
  async #end(session: Session, received: HeaderList, onEnded = (): void => {}): Promise<void> {
    const { registry, handshake, services, streams } = this.#options
    await registry.close(session)
    this.#codeMode?.endSession(session.key.sessionId)
    onEnded()
    streams.end(session.key)
    for (const stream of this.#streams) if (stream.belongsTo(session)) stream.close()
    await handshake.endUpstream(session.record, received)
    await services.files.removeSession(session.key)
  }
}

/** Says for the log what a body asks for. */
function note(exchange: Exchange, { isBatch, messages: [message] }: Envelope): void {
  if (isBatch) exchange.note?.('batch', undefined)
  else if (message === undefined || message.kind === 'response')
    exchange.note?.('response', undefined)
  else {
    const name = message.method === 'tools/call' ? message.params?.['name'] : undefined
    exchange.note?.(
      message.method.slice(0, MAX_NOTE_CHARS),
      typeof name === 'string' ? name.slice(0, MAX_NOTE_CHARS) : undefined,
    )
  }
}

/** Whatever else a name is, some upstream may make a text of it: `["x"]` is `x` as the key of an object. */
function refuseNamelessCall(message: Message): void {
  if (message.kind === 'response' || message.method !== 'tools/call') return
  if (typeof message.params?.['name'] === 'string') return
  throw new AdapterError('ADAPTER_INVALID_PARAMS', 'params.name of tools/call must be a string')
}
