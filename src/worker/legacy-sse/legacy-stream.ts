/**
 * One client of the HTTP+SSE transport: the stream that it has open, and the session that lives as long. What it POSTs becomes requests of Streamable HTTP
 * that are made here, so that nothing is decided a second time; whatever comes of them goes to the stream.
 */
import type { ServerConfig } from '../../shared/config/config.ts'
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { headerValue } from '../../shared/frames/header-list.ts'
import type { Log } from '../../shared/log.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import { toAdapterError } from '../exchange/adapter-error.ts'
import { refuseEncoding } from '../exchange/content-encoding.ts'
import type { Exchange } from '../exchange/exchange.ts'
import { fail, firstId } from '../exchange/failure.ts'
import { isObject, readEnvelope } from '../exchange/json-rpc.ts'
import type { Envelope } from '../exchange/json-rpc.ts'
import type { SessionRegistry } from '../session/registry.ts'
import { InnerExchange } from './inner-exchange.ts'
import type { InnerListener } from './inner-exchange.ts'
import { innerRequest } from './inner-request.ts'
import type { InnerPurpose } from './inner-request.ts'
import { endpointEvent, KEEP_ALIVE, messageEvent, STREAM_HEADERS } from './legacy-events.ts'
import { PostedMessages } from './posted-messages.ts'
import { StandaloneFeed } from './standalone-feed.ts'

/** POSTs of one client under way at a time. Requests are counted against `sessions.max_in_flight_per_session` besides. */
const MAX_UNDER_WAY = 1_024
/** A connection without a session is ended after this time, in milliseconds. */
const INITIALIZE_WITHIN_MS = 60_000
/** Longest wait for the end of a session to be told, in milliseconds. */
const END_TIMEOUT_MS = 5_000

/** What is needed of the endpoint of Streamable HTTP. */
export interface SessionEndpoint {
  handle(exchange: Exchange): void
  /** Ends a session everywhere; rejects when there is none. */
  endSession(sessionId: string, principal: string, received: HeaderList): Promise<void>
}

/** What a stream is made of. */
export interface LegacyStreamOptions {
  /** The client's GET. */
  readonly exchange: Exchange
  /** Where its messages go, as a reference. */
  readonly messagesUri: string
  readonly server: ServerConfig
  /** Where Streamable HTTP is served. */
  readonly endpoint: SessionEndpoint
  readonly registry: Pick<SessionRegistry, 'peek'>
  readonly log: Log
  /** Largest event, in bytes. */
  readonly maxEventBytes: number
  /** Called once, when the stream is over; resolves when its session is, too. Never rejects. */
  readonly onOver: (ended: Promise<void>) => void
}

/** See the file comment. */
export class LegacyStream {
  readonly #options: LegacyStreamOptions
  readonly #underWay = new Set<PostedMessages>()
  readonly #feed: StandaloneFeed
  #sessionId: string | undefined
  #protocolVersion: string | undefined
  #isInitializing = false
  #hasFeed = false
  /** Keeps the session in use. */
  #release: (() => void) | undefined
  #deadline: NodeJS.Timeout | undefined
  #isFlowing = true
  #isLeaving = false
  #isOver = false

  constructor(options: LegacyStreamOptions) {
    this.#options = options
    this.#feed = new StandaloneFeed({
      exchange: (listener, lastEventId) =>
        this.#exchange(options.exchange, { method: 'GET', body: null, lastEventId }, listener),
      send: (inner) => this.#send(inner),
      deliver: (data) => this.#deliver(data),
      onLost: () => this.leave(),
    })
  }

  /** Whose it is. */
  get principal(): string {
    return this.#options.exchange.request.principal
  }

  /** Whether a session was made. */
  get hasSession(): boolean {
    return this.#sessionId !== undefined
  }

  /** Tells the client where its messages go. Once. */
  start(): void {
    const { exchange, messagesUri } = this.#options
    exchange.onAbort(() => this.#end())
    exchange.onDrain(() => this.#drained())
    exchange.begin(200, STREAM_HEADERS)
    exchange.write(endpointEvent(messagesUri))
    this.#awaitInitialize()
  }

  /** Takes what the client POSTs. */
  take(post: Exchange): void {
    const { request } = post
    let envelope: Envelope | undefined
    try {
      refuseEncoding(request.headers)
      envelope = readEnvelope(request.body ?? '')
      this.#admit(envelope)
    } catch (error) {
      fail(post, toAdapterError(error), firstId(envelope))
      return
    }
    const isInitialize = isInitializeOf(envelope)
    if (isInitialize) this.#initializeBegins()
    const cancelled = this.#noteCancelled(envelope)
    const posted: PostedMessages = new PostedMessages({
      envelope,
      exchange: (listener, lastEventId) =>
        this.#exchange(
          post,
          lastEventId === undefined
            ? { method: 'POST', body: request.body }
            : { method: 'GET', body: null, lastEventId },
          listener,
        ),
      send: (inner) => this.#send(inner),
      deliver: (data) => this.#deliver(data),
      onHead: (status, headers) => {
        if (isInitialize) this.#opened(status, headers)
      },
      onResponse: (message) => {
        if (isInitialize) this.#noteVersion(message)
      },
      onOver: (status) => {
        this.#underWay.delete(posted)
        if (isInitialize) this.#initializeEnds()
        for (const one of cancelled) this.#giveUp(one)
        // To a client of Streamable HTTP that says that its session is gone.
        if (status === 404 && this.hasSession) this.leave()
        else if (isInitialized(envelope)) this.#startFeed()
        this.#leaveWhenIdle()
      },
    })
    this.#underWay.add(posted)
    const refusal = posted.start()
    if (refusal === undefined) post.respond(202, [])
    else post.respond(refusal.status, refusal.headers, refusal.body)
  }

  /** A comment that keeps idle connections from being cut on the way, and finds out about dead ones. */
  keepAlive(): void {
    if (this.#isFlowing && !this.#isOver) this.#options.exchange.write(KEEP_ALIVE)
  }

  /** Ends the stream as soon as nothing is under way, so that the client goes elsewhere. */
  leave(): void {
    this.#isLeaving = true
    this.#feed.stop()
    this.#leaveWhenIdle()
  }

  /** Ends the stream and its session. */
  close(): void {
    if (this.#isOver) return
    this.#options.exchange.end()
    this.#end()
  }

  /** Throws what is wrong with messages at this point. */
  #admit(envelope: Envelope): void {
    if (this.#underWay.size >= MAX_UNDER_WAY) {
      throw new AdapterError(
        'ADAPTER_OVERLOADED',
        `${MAX_UNDER_WAY} POSTs of this connection are under way already`,
      )
    }
    if (isInitializeOf(envelope) && (this.hasSession || this.#isInitializing)) {
      throw new AdapterError(
        'ADAPTER_INVALID_REQUEST',
        'this connection is initialised already: open another for another session',
      )
    }
  }

  #exchange(
    client: Exchange,
    purpose: Pick<InnerPurpose, 'method' | 'body' | 'lastEventId'>,
    listener: InnerListener,
  ): InnerExchange {
    const { server, maxEventBytes } = this.#options
    const request = innerRequest(client.request, {
      ...purpose,
      path: server.mountPath,
      sessionId: this.#sessionId,
      protocolVersion: this.#protocolVersion,
    })
    // What the adapter asks by itself, on a stream that broke off, is no request of the client's.
    const noteRefusal = purpose.method === 'POST' ? client.noteRefusal : undefined
    return new InnerExchange(request, maxEventBytes, listener, noteRefusal)
  }

  /** What goes wrong unexpectedly is the answer of that exchange, whoever's turn it is in. */
  #send(inner: InnerExchange): void {
    const { endpoint, log } = this.#options
    try {
      endpoint.handle(inner)
    } catch (error) {
      const { correlationId } = inner.request
      log.error(
        { err: error, route: 'messages', request_id: correlationId },
        'a request failed unexpectedly',
      )
      fail(inner, toAdapterError(error), null)
    }
  }

  #deliver(data: Uint8Array): boolean {
    if (this.#isOver) return true
    this.#isFlowing = this.#options.exchange.write(messageEvent(data))
    return this.#isFlowing
  }

  #drained(): void {
    this.#isFlowing = true
    for (const posted of this.#underWay) posted.resume()
    this.#feed.resume()
  }

  #awaitInitialize(): void {
    this.#deadline = setTimeout(() => this.close(), INITIALIZE_WITHIN_MS)
    this.#deadline.unref()
  }

  #initializeBegins(): void {
    this.#isInitializing = true
    clearTimeout(this.#deadline)
  }

  #initializeEnds(): void {
    this.#isInitializing = false
    if (!this.hasSession && !this.#isOver) this.#awaitInitialize()
  }

  /** The answer to `initialize` has come: the session is there. */
  #opened(status: number, headers: HeaderList): void {
    const sessionId = status === 200 ? headerValue(headers, 'mcp-session-id') : undefined
    if (sessionId === undefined) return
    this.#sessionId = sessionId
    const { registry, server } = this.#options
    const session = registry.peek(server.id, sessionId, this.principal)
    if (session === undefined) return
    session.streams++
    this.#release = () => {
      session.streams--
    }
  }

  #noteVersion({ result }: JsonObject): void {
    const version = isObject(result) ? result['protocolVersion'] : undefined
    if (typeof version === 'string') this.#protocolVersion = version
  }

  /** The upstream may serve it from here on. */
  #startFeed(): void {
    if (this.#hasFeed || this.#isOver || this.#isLeaving || !this.hasSession) return
    this.#hasFeed = true
    this.#feed.start()
  }

  /** The POSTs that have requests which are cancelled now: nobody waits for their responses. */
  #noteCancelled({ messages }: Envelope): PostedMessages[] {
    const ids = messages.flatMap((message) =>
      message.kind === 'notification' && message.method === 'notifications/cancelled'
        ? [message.params?.['requestId']]
        : [],
    )
    if (ids.length === 0) return []
    const waiting = [...this.#underWay].filter((posted) => !posted.isIdle)
    for (const posted of waiting) for (const id of ids) posted.cancel(id)
    return waiting.filter((posted) => posted.isIdle)
  }

  /** The upstream knows that it was cancelled. */
  #giveUp(posted: PostedMessages): void {
    if (this.#underWay.delete(posted)) posted.abort()
  }

  #leaveWhenIdle(): void {
    if (this.#isLeaving && this.#underWay.size === 0) this.close()
  }

  /** The client's stream is over, and its session with it. */
  #end(): void {
    if (this.#isOver) return
    this.#isOver = true
    clearTimeout(this.#deadline)
    this.#feed.stop()
    for (const posted of this.#underWay) posted.abort()
    this.#underWay.clear()
    this.#release?.()
    this.#options.onOver(this.#endSession())
  }

  async #endSession(): Promise<void> {
    const sessionId = this.#sessionId
    if (sessionId === undefined) return
    const { exchange, endpoint } = this.#options
    let limit: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      limit = setTimeout(resolve, END_TIMEOUT_MS)
    })
    const { headers } = exchange.request
    // One that is gone already needs no end.
    const ended = endpoint.endSession(sessionId, this.principal, headers).catch(() => undefined)
    await Promise.race([ended, late])
    clearTimeout(limit)
  }
}

function isInitializeOf({ messages }: Envelope): boolean {
  return messages.some((one) => one.kind === 'request' && one.method === 'initialize')
}

function isInitialized({ messages }: Envelope): boolean {
  return messages.some(
    (one) => one.kind === 'notification' && one.method === 'notifications/initialized',
  )
}
