/** POSTs in a session, except `initialize`: counted against the session's limit, changed where adapters ask for it, and forwarded. */
import { headerValue } from '../../shared/frames/header-list.ts'
import type { Config, ServerConfig } from '../../shared/config/config.ts'
import { AdapterError } from '../../shared/errors.ts'
import type { UrlSigner } from '../../shared/signing.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import type { StateStore } from '../../shared/state/store.ts'
import type { CallMetrics } from '../metrics/call-metrics.ts'
import { CallPlaces } from '../session/call-places.ts'
import type { Handshake } from '../session/handshake.ts'
import { unknownSession } from '../session/registry.ts'
import type { PendingRewrite, Session } from '../session/session.ts'
import type { RootAnswers } from '../stream/root-answers.ts'
import type { StreamHolder } from '../stream/stream-holder.ts'
import { upstreamHeaders } from '../upstream/forwarded-headers.ts'
import type { Upstream } from '../upstream/upstream.ts'
import { idKey } from './json-rpc.ts'
import { toAdapterError } from './adapter-error.ts'
import { callTimeoutMs } from './call-timeout.ts'
import { DelayedExchange } from './delayed-exchange.ts'
import type { Exchange } from './exchange.ts'
import { fail, firstId } from './failure.ts'
import { ForwardedPost } from './forwarded-post.ts'
import type { Envelope, Message } from './json-rpc.ts'
import type { Listings } from './listings.ts'
import type { Planner } from './plan.ts'
import { withRelayedIds } from './relayed-ids.ts'
import { SAFE_METHODS } from './safe-methods.ts'

type Request = Extract<Message, { kind: 'request' }>

/** What posts are handled with. */
interface SessionPostsOptions {
  readonly server: ServerConfig
  readonly config: Config
  readonly services: { readonly store: StateStore; readonly signer: UrlSigner }
  readonly upstream: Upstream
  readonly handshake: Handshake
  readonly streams: StreamHolder
  /** Undefined where no listing is kept. */
  readonly listings?: Listings | undefined
  /** See `McpEndpointOptions`. */
  readonly roots: RootAnswers | undefined
  readonly calls: CallMetrics
  /** URL prefix for clients whose request has no Host. */
  readonly fallbackBaseUrl: string
}

/** One POST on its way. */
interface Posted {
  readonly exchange: Exchange
  readonly session: Session
  readonly envelope: Envelope
  readonly body: Uint8Array | string
  readonly requests: readonly Request[]
  /** Gives its places in the limit back. Idempotent. */
  readonly done: () => void
}

/** What is left to send of it. */
interface Sending {
  readonly requests: readonly Request[]
  readonly body: Uint8Array | string
  readonly rewrites: Map<string, PendingRewrite>
  readonly locals: readonly JsonObject[]
}

/** See the file comment. One per worker and server. */
export class SessionPosts {
  readonly #planner: Planner
  readonly #options: SessionPostsOptions
  /** The limit of requests at a time, where other replicas have requests of the same session too. */
  readonly #isLimitShared: boolean

  constructor(planner: Planner, options: SessionPostsOptions) {
    this.#planner = planner
    this.#options = options
    const { sessions, statePersistence } = options.config
    this.#isLimitShared =
      sessions.maxInFlightPerSession !== null && statePersistence.type === 'redis'
  }

  take(exchange: Exchange, session: Session, envelope: Envelope, body: Uint8Array | string): void {
    const requests = envelope.messages.filter((message) => message.kind === 'request')
    const { length: count } = requests
    if (count === 0) {
      this.#go({ exchange, session, envelope, body, requests, done: () => {} })
      return
    }
    const limit = this.#options.config.sessions.maxInFlightPerSession
    // This worker's own requests alone may reach it, which needs no question to the store.
    if (limit !== null && session.inFlight + count > limit) {
      fail(exchange, this.#atLimit(), firstId(envelope))
      return
    }
    session.inFlight += count
    if (this.#isLimitShared) {
      this.#enter({ exchange, session, envelope, body, requests })
      return
    }
    const done = once(() => {
      session.inFlight -= count
    })
    this.#go({ exchange, session, envelope, body, requests, done })
  }

  /** Takes places of those that the store counts over all replicas, before anything is sent. */
  #enter(posted: Omit<Posted, 'done'>): void {
    const { exchange, session, envelope, requests } = posted
    const { length: count } = requests
    const places = (session.places ??= new CallPlaces(this.#options.services.store, session.key))
    const done = once(() => {
      session.inFlight -= count
      places.leave(count)
    })
    if (places.tryEnter(count)) {
      this.#go({ ...posted, done })
      return
    }
    const refuse = (error: AdapterError): void => {
      session.inFlight -= count
      fail(exchange, error, firstId(envelope))
    }
    places.enter(count).then(
      (refused) => {
        if (refused !== undefined) {
          refuse(refused === 'at_limit' ? this.#atLimit() : unknownSession())
        } else if (exchange.isOpen) this.#go({ ...posted, done })
        else done()
      },
      (error: unknown) => refuse(toAdapterError(error)),
    )
  }

  #go(posted: Posted): void {
    const { exchange, session, requests, done } = posted
    // What the upstream may ask for on the stream is part of answering a request.
    const standing =
      this.#planner.isRooted && requests.length > 0
        ? this.#options.streams.untilStanding(session.record, exchange.request.headers)
        : undefined
    if (standing === undefined) {
      this.#begin(posted)
      return
    }
    void standing.then(() => {
      if (exchange.isOpen) this.#begin(posted)
      else done()
    })
  }

  #begin(posted: Posted): void {
    const { exchange, session, envelope, requests, body, done } = posted
    if (!envelope.messages.some((message) => this.#planner.concerns(message, session))) {
      this.#forward(posted, { requests, body, rewrites: new Map(), locals: [] })
      return
    }
    this.#plan(posted).catch((error: unknown) => {
      done()
      fail(exchange, toAdapterError(error), firstId(envelope))
    })
  }

  async #plan(posted: Posted): Promise<void> {
    const { exchange, session, envelope, requests, done } = posted
    const baseUrl = this.#baseUrl(exchange)
    const received = exchange.request.headers
    const outgoing: unknown[] = []
    const locals: JsonObject[] = []
    const answered = new Set<Message>()
    const rewrites = new Map<string, PendingRewrite>()
    let changed = false
    let sent = posted.body
    try {
      for (const message of envelope.messages) {
        // In the client's order: they share quotas.
        const plan = this.#planner.concerns(message, session)
          ? await this.#planner.plan(message, session, { baseUrl, received })
          : undefined
        if (plan?.kind === 'drop') {
          changed = true
        } else if (plan?.kind === 'replace') {
          outgoing.push(plan.value)
          changed = true
        } else if (plan === undefined || plan.kind === 'forward' || message.kind !== 'request') {
          outgoing.push(message.value)
        } else if (plan.kind === 'answer') {
          locals.push(plan.response)
          answered.add(message)
          changed = true
        } else {
          if (plan.rewrite !== undefined) rewrites.set(idKey(message.id), plan.rewrite)
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
      answerLocally(exchange, locals, envelope.isBatch)
      return
    }
    const forwarded = requests.filter((request) => !answered.has(request))
    this.#forward(posted, { requests: forwarded, body: sent, rewrites, locals })
  }

  #forward(posted: Posted, sending: Sending): void {
    const { server, upstream, config, handshake, streams } = this.#options
    const { envelope, session, done } = posted
    const { requests, body, rewrites, locals } = sending
    const exchange = this.#initializes(posted)
      ? new DelayedExchange(posted.exchange, () => this.#untilStanding(posted))
      : posted.exchange
    const received = exchange.request.headers
    const listing = this.#options.listings?.through(upstream, envelope, {
      session,
      received,
      mustAskForTools: () => this.#mustAskForTools(session),
    })
    // What will be rewritten, or kept, must be readable.
    const isRead = rewrites.size > 0 || listing !== undefined
    const extra = isRead ? ['accept-encoding', 'identity'] : []
    const counted = this.#options.calls.begin(requests)
    let sentTo = session.record.upstreamSessionId
    new ForwardedPost({
      exchange,
      server,
      upstream: listing ?? upstream,
      body,
      headers: () => {
        sentTo = session.record.upstreamSessionId
        return [...upstreamHeaders(received, server, sentTo), ...extra]
      },
      requestIds: requests.map((request) => request.id),
      isSafe: requests.length > 0 && requests.every((request) => SAFE_METHODS.has(request.method)),
      rewrites,
      locals,
      watch: this.#planner.watch(requests),
      maxResponseBytes: config.core.maxResponseMessageBytes,
      timeoutMs: callTimeoutMs(server, requests),
      recover:
        sentTo === null
          ? undefined
          : async () => {
              const isBack = await handshake.reinitialise(session, received, sentTo)
              if (isBack) await this.#untilStanding(posted, true)
              return isBack
            },
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
      intercept: this.#planner.isRooted ? (event) => this.#withoutRoots(event, posted) : undefined,
      suspend: (key, rewrite) => session.suspend(key, rewrite),
      done: (outcome) => {
        done()
        counted?.(outcome)
        // The first that passes is `notifications/initialized`: before it, the upstream need not serve a stream.
        if (server.upstream.holdStream) streams.hold(session.record, received)
      },
    }).start()
  }

  /** What is pinned is what was shown first, from memory or not; whether it has drifted since, only the upstream can tell. */
  #mustAskForTools(session: Session): boolean {
    if (!this.#planner.pinsTools) return false
    const { hasListedTools } = session
    session.hasListedTools = true
    return hasListedTools
  }

  /** Whether it is what completes `initialize`. Whoever waits for its answer finds the stream standing, on whatever replica. */
  #initializes({ envelope, requests }: Posted): boolean {
    return (
      this.#planner.isRooted &&
      requests.length === 0 &&
      envelope.messages.some(
        (message) =>
          message.kind === 'notification' && message.method === 'notifications/initialized',
      )
    )
  }

  async #untilStanding({ exchange, session }: Posted, isNew = false): Promise<void> {
    if (!this.#planner.isRooted) return
    const { headers } = exchange.request
    await this.#options.streams.untilStanding(session.record, headers, { isNew })
  }

  /** An event of an answer as the client gets it. */
  #withoutRoots(event: Uint8Array, { exchange, session }: Posted): Uint8Array | undefined {
    const { server, upstream, roots, services } = this.#options
    const onBehalf = { server, record: session.record, received: exchange.request.headers }
    const left = roots === undefined ? event : roots.take(event, upstream, onBehalf)
    return left && withRelayedIds(left, services.signer, session.key)
  }

  #atLimit(): AdapterError {
    const limit = this.#options.config.sessions.maxInFlightPerSession
    return new AdapterError(
      'ADAPTER_IN_FLIGHT_LIMIT',
      `this session has sessions.max_in_flight_per_session (${limit}) requests under way`,
    )
  }

  #baseUrl(exchange: Exchange): string {
    const { publicBaseUrl, tls } = this.#options.config.core
    const scheme = tls.certFile === null ? 'http' : 'https'
    if (publicBaseUrl !== null) return publicBaseUrl
    // The primary let only acceptable Host names through.
    const host = headerValue(exchange.request.headers, 'host')
    return host === undefined || host === '' ? this.#options.fallbackBaseUrl : `${scheme}://${host}`
  }
}

/** Answers a POST of which nothing goes to the upstream. */
function answerLocally(exchange: Exchange, locals: readonly JsonObject[], isBatch: boolean): void {
  if (locals.length === 0) {
    exchange.respond(202, [])
    return
  }
  exchange.respond(
    200,
    ['content-type', 'application/json'],
    JSON.stringify(isBatch ? locals : locals[0]),
  )
}

function once(run: () => void): () => void {
  let isDone = false
  return () => {
    if (isDone) return
    isDone = true
    run()
  }
}
