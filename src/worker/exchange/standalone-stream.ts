/**
 * The client's standalone stream (GET): the upstream's own, relayed, with the adapter's notifications put between its events. The upstream's is held by
 * the `StreamHolder`, and outlives the client's. A GET with a Last-Event-ID goes its own way, as it may be for the rest of a call's answer.
 */
import type { ServerConfig } from '../../shared/config/config.ts'
import type { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { JsonObject, SessionRecord } from '../../shared/state/records.ts'
import type { NotificationSink, PendingRewrite, Session } from '../session/session.ts'
import type { StreamClient } from '../stream/stream-client.ts'
import type { StreamHolder } from '../stream/stream-holder.ts'
import { isReadable, UpstreamGet } from '../stream/upstream-get.ts'
import type { GetPlan } from '../stream/upstream-get.ts'
import { withoutHeader } from '../upstream/forwarded-headers.ts'
import type { Upstream, UpstreamCall } from '../upstream/upstream.ts'
import { toAdapterError } from './adapter-error.ts'
import { credentialRefusal } from './credential-refusal.ts'
import { RawSink } from './raw-sink.ts'
import type { ListWatch } from './list-watch.ts'
import { mayHoldTools } from './tool-list-scanner.ts'
import { SseSink } from './sse-sink.ts'
import type { AnswerSink } from './answer-sink.ts'
import type { Exchange } from './exchange.ts'
import { fail } from './failure.ts'
import { messageEvent } from './sse.ts'

const KEEP_ALIVE = Buffer.from(':\n\n')

/** What a stream is made of. */
export interface StandaloneStreamOptions {
  readonly exchange: Exchange
  readonly server: ServerConfig
  readonly session: Session
  readonly upstream: Upstream
  readonly streams: StreamHolder
  /** Builds the upstream headers, with the client's Last-Event-ID or without; called again for a repetition. */
  readonly headers: (resumes: boolean) => HeaderList
  /** The event that the client goes on after. */
  readonly lastEventId: string | undefined
  /** Looks at responses whose own rewrite is not here: it was on a replica that is lost. Undefined when none need one. */
  readonly orphanRewrite: PendingRewrite | undefined
  /** Looks at responses where none belongs. Undefined when none can do harm. */
  readonly strayRewrite: PendingRewrite | undefined
  /** Looks at what is no response that could be rewritten. Undefined as the one before. */
  readonly watch: ListWatch | undefined
  /** Whether the adapter has notifications of its own to send: then a stream is served even when the upstream has none. */
  readonly hasOwnEvents: boolean
  readonly maxEventBytes: number
  /** Undefined where the upstream has no root of its session. */
  readonly rooted:
    | {
        /** Answers requests for roots on a stream that is not held. */
        readonly intercept: (event: Uint8Array) => Uint8Array | undefined
        /** What the client gets of an event. */
        readonly relay: (event: Uint8Array) => Uint8Array | undefined
      }
    | undefined
  readonly recover: () => Promise<boolean>
  readonly recoveries: number
  readonly done: () => void
}

/** See the file comment. */
export class StandaloneStream implements StreamClient, NotificationSink {
  readonly plan: GetPlan
  readonly #options: StandaloneStreamOptions
  #call: UpstreamCall | undefined
  #sink: AnswerSink | undefined
  #isHeld = false
  /** Whether events go to the client. */
  #isOpen = false
  /** Whether anything was sent to the client. */
  #hasBegun = false
  #over = false

  constructor(options: StandaloneStreamOptions) {
    const { session, lastEventId, headers, recover, recoveries } = options
    this.#options = options
    this.plan = {
      headers,
      resumes: lastEventId !== undefined,
      recover: session.record.upstreamSessionId === null ? undefined : recover,
      recoveries,
      // What followed an event of the upstream session before is lost; what comes now is not. Nor is what was kept here.
      mayStartAfresh: () => session.hasNewUpstream || this.#isHeld,
    }
  }

  get record(): SessionRecord {
    return this.#options.session.record
  }

  get received(): HeaderList {
    return this.#options.exchange.request.headers
  }

  start(): void {
    const { exchange, session, streams, upstream, lastEventId, maxEventBytes } = this.#options
    session.streams++
    session.sinks.add(this)
    exchange.onAbort(() => this.close())
    this.#isHeld =
      lastEventId === undefined ? streams.attach(this) : streams.resume(this, lastEventId)
    if (this.#isHeld) return
    streams.watch(this)
    const { plan } = this
    const waits = { conflictPatienceMs: 0, maxEventBytes }
    const intercept = this.#options.rooted?.intercept
    const get = new UpstreamGet({ upstream, plan, ...waits, listener: this, intercept })
    this.#call = get
    get.send()
  }

  notify(message: JsonObject): void {
    if (this.#isOpen && !this.#over)
      this.#options.exchange.write(messageEvent(JSON.stringify(message)))
  }

  /** A comment that keeps idle connections from being cut on the way, and finds out about dead ones. */
  keepAlive(): void {
    if (this.#isOpen && !this.#over) this.#options.exchange.write(KEEP_ALIVE)
  }

  /** Whether the upstream's stream is held for this client, or else its own. */
  get isHeld(): boolean {
    return this.#isHeld
  }

  belongsTo(session: Session): boolean {
    return this.#options.session === session
  }

  /** Ends the stream towards the client, who opens another; the upstream's goes on if it is held. */
  close(): void {
    if (this.#over) return
    if (!this.#finish()) this.#call?.abort()
    this.#sink?.abandon()
    if (this.#hasBegun) this.#options.exchange.end()
    else this.#options.exchange.respond(503, ['retry-after', '1'])
  }

  head(status: number, received: HeaderList, call: UpstreamCall): void {
    if (this.#over) return
    const { exchange, session, streams, hasOwnEvents } = this.#options
    this.#call = call
    const headers = withoutHeader(received, 'mcp-session-id')
    const isAlone = !this.#isHeld
    if (status === 409 && isAlone && this.plan.resumes && streams.attach(this)) {
      // It is the standalone stream that the client goes on with, and another GET of ours is in its way.
      this.#isHeld = true
      call.abort()
      return
    }
    this.#isOpen = status === 200 && isReadable(headers)
    if (this.#isOpen && isAlone) streams.hasStream(session.key.serverId)
    if (!this.#isOpen && !isAlone) {
      this.#isHeld = false
      streams.watch(this)
    }
    const refusal = credentialRefusal(status, this.#options.server)
    if (refusal !== undefined) {
      call.abort()
      this.error(refusal)
      return
    }
    // To a client, 404 would say that its session is gone; here there is none to be gone.
    const isAbsent = status === 405 || (status === 404 && session.record.upstreamSessionId === null)
    if (!isAbsent) {
      this.#begin(status, headers, call)
      return
    }
    call.abort()
    if (hasOwnEvents) this.#serveOwnEvents()
    else {
      this.#finish()
      exchange.respond(405, ['allow', 'POST, DELETE'])
    }
  }

  data(chunk: Uint8Array): void {
    if (this.#over) return
    const { rooted } = this.#options
    const left = rooted !== undefined && this.#isOpen ? rooted.relay(chunk) : chunk
    if (left !== undefined) this.#sink?.data(left)
  }

  end(): void {
    if (this.#over) return
    this.#finish()
    if (this.#sink === undefined) this.#options.exchange.respond(503, ['retry-after', '1'])
    else this.#sink.end()
  }

  error(error: AdapterError): void {
    if (this.#over) return
    this.#finish()
    if (this.#sink === undefined) fail(this.#options.exchange, error, null)
    else this.#sink.error(error)
  }

  #begin(status: number, headers: HeaderList, call: UpstreamCall): void {
    try {
      this.#sink = this.#openSink(status, headers, call)
      this.#hasBegun = true
    } catch (error) {
      call.abort()
      this.error(toAdapterError(error))
    }
  }

  #openSink(status: number, headers: HeaderList, call: UpstreamCall): AnswerSink {
    const { exchange, session, maxEventBytes, orphanRewrite, strayRewrite, watch } = this.#options
    // A stream that breaks off is closed: clients open another, with Last-Event-ID when they have one.
    const onCut = (): void => {
      // The upstream's has told so, or this one found out by itself.
      if (this.#over) exchange.end()
      else this.close()
    }
    const mayHoldAnswers = this.plan.resumes || session.hasSuspended
    const orphan = this.plan.resumes ? orphanRewrite : strayRewrite
    const scanner = watch?.streamScanner(headers)
    if (!this.#isOpen || (!session.hasSuspended && orphan === undefined)) {
      // Some clients take whatever comes for a stream.
      const watched = watch && scanner && { watch, scanner }
      return new RawSink(exchange, { status, headers }, call, onCut, { watched })
    }
    return new SseSink({
      exchange,
      head: { status, headers },
      take: (key) => session.takeSuspended(key) ?? orphan,
      passes: mayHoldAnswers ? undefined : (event) => !mayHoldTools(event),
      watch,
      locals: [],
      maxBytes: maxEventBytes,
      call,
      onEnd: () => {},
      onCut,
    })
  }

  #serveOwnEvents(): void {
    this.#hasBegun = true
    this.#isOpen = true
    this.#options.exchange.begin(200, [
      'content-type',
      'text/event-stream',
      'cache-control',
      'no-cache',
      'x-accel-buffering',
      'no',
    ])
  }

  /** Answers whether the upstream's stream goes on without this one. */
  #finish(): boolean {
    this.#over = true
    const { session, streams, done } = this.#options
    session.streams--
    session.sinks.delete(this)
    done()
    return streams.detach(this)
  }
}
