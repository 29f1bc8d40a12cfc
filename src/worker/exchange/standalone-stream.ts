/** The client's standalone stream (GET): the upstream's own, relayed, with the adapter's notifications put between its events. */
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import type { NotificationSink, Session } from '../session/session.ts'
import { withoutHeader } from '../upstream/forwarded-headers.ts'
import type { AnswerListener, Upstream, UpstreamCall } from '../upstream/upstream.ts'
import { isEventStream, RawSink, SseSink } from './answer-sinks.ts'
import type { AnswerSink } from './answer-sinks.ts'
import type { Exchange } from './exchange.ts'
import { EventBoundary, messageEvent } from './sse.ts'

const KEEP_ALIVE = Buffer.from(':\n\n')

/** What a stream is made of. */
export interface StandaloneStreamOptions {
  readonly exchange: Exchange
  readonly session: Session
  readonly upstream: Upstream
  /** Builds the upstream headers, with the client's Last-Event-ID or without; called again for a repetition. */
  readonly headers: (resumes: boolean) => HeaderList
  /** Whether the client sent a Last-Event-ID. */
  readonly resumes: boolean
  /** Whether the adapter has notifications of its own to send: then a stream is served even when the upstream has none. */
  readonly hasOwnEvents: boolean
  readonly maxEventBytes: number
  readonly recover: () => Promise<boolean>
  readonly recoveries: number
  readonly done: () => void
}

/** See the file comment. */
export class StandaloneStream implements AnswerListener, NotificationSink {
  readonly #options: StandaloneStreamOptions
  readonly #boundary = new EventBoundary()
  #waiting: Uint8Array[] = []
  #call: UpstreamCall | undefined
  #sink: AnswerSink | undefined
  #recoveriesLeft: number
  #resumes: boolean
  #isOpen = false
  #over = false

  constructor(options: StandaloneStreamOptions) {
    this.#options = options
    this.#recoveriesLeft = options.recoveries
    this.#resumes = options.resumes
  }

  start(): void {
    const { exchange, session } = this.#options
    session.streams++
    session.sinks.add(this)
    exchange.onAbort(() => this.close())
    this.#send()
  }

  notify(message: JsonObject): void {
    if (!this.#isOpen || this.#over) return
    const event = messageEvent(JSON.stringify(message))
    if (this.#boundary.isBetweenEvents) this.#options.exchange.write(event)
    else this.#waiting.push(event)
  }

  /** A comment that keeps idle connections from being cut on the way, and finds out about dead ones. */
  keepAlive(): void {
    if (this.#isOpen && !this.#over && this.#boundary.isBetweenEvents)
      this.#options.exchange.write(KEEP_ALIVE)
  }

  belongsTo(session: Session): boolean {
    return this.#options.session === session
  }

  /** Ends the stream towards both sides. The client opens another. */
  close(): void {
    if (this.#over) return
    this.#finish()
    this.#call?.abort()
    this.#sink?.abandon()
    if (this.#isOpen) this.#options.exchange.end()
    else this.#options.exchange.respond(503, ['retry-after', '1'])
  }

  head(status: number, received: HeaderList): void {
    if (this.#over) return
    const { exchange, session, hasOwnEvents, maxEventBytes } = this.#options
    const headers = withoutHeader(received, 'mcp-session-id')
    if (status === 404 && session.record.upstreamSessionId !== null && this.#recoveriesLeft > 0) {
      this.#recoveriesLeft--
      this.#call?.abort()
      this.#recover()
      return
    }
    if (status >= 400 && status !== 405 && this.#resumes && session.hasNewUpstream) {
      // The event id is of the upstream session before: what followed it is lost, what comes now is not.
      this.#resumes = false
      this.#call?.abort()
      this.#send()
      return
    }
    // To a client, 404 would say that its session is gone; here there is none to be gone.
    const isAbsent = status === 405 || (status === 404 && session.record.upstreamSessionId === null)
    if (isAbsent && !hasOwnEvents) {
      this.#finish()
      this.#call?.abort()
      exchange.respond(405, ['allow', 'POST, DELETE'])
      return
    }
    if (isAbsent) {
      this.#call?.abort()
      this.#call = undefined
      this.#isOpen = true
      exchange.begin(200, [
        'content-type',
        'text/event-stream',
        'cache-control',
        'no-cache',
        'x-accel-buffering',
        'no',
      ])
      return
    }
    const call = this.#call
    if (call === undefined) return
    this.#isOpen = status === 200 && isEventStream(headers)
    const onCut = (error: AdapterError): void => this.#cut(error)
    this.#sink = session.hasSuspended
      ? new SseSink({
          exchange,
          head: { status, headers },
          take: (key) => session.takeSuspended(key),
          locals: [],
          maxBytes: maxEventBytes,
          call,
          onEnd: () => {},
          onCut,
        })
      : new RawSink(exchange, { status, headers }, call, onCut)
  }

  data(chunk: Uint8Array): void {
    if (this.#over) return
    this.#boundary.note(chunk)
    this.#sink?.data(chunk)
    if (this.#waiting.length === 0 || !this.#boundary.isBetweenEvents) return
    for (const event of this.#waiting) this.#options.exchange.write(event)
    this.#waiting = []
  }

  end(): void {
    if (this.#over) return
    this.#finish()
    this.#sink?.end()
  }

  error(error: AdapterError): void {
    if (this.#over) return
    this.#finish()
    if (this.#sink === undefined) {
      this.#options.exchange.respond(
        error.status,
        ['content-type', 'application/json'],
        error.toJsonRpc(null),
      )
    } else this.#sink.error(error)
  }

  #send(): void {
    const { upstream, headers } = this.#options
    this.#call = upstream.call(
      { method: 'GET', headers: headers(this.#resumes), body: null, isSafe: true },
      this,
    )
  }

  #recover(): void {
    this.#options.recover().then(
      (recovered) => {
        if (this.#over) return
        if (recovered) {
          this.#resumes = false
          this.#send()
        } else
          this.error(
            new AdapterError(
              'ADAPTER_SESSION_UNKNOWN',
              'the upstream server ended this session; initialize a new one',
            ),
          )
      },
      () => {
        if (!this.#over)
          this.error(
            new AdapterError(
              'ADAPTER_UPSTREAM_UNREACHABLE',
              'the upstream server can not be reached',
            ),
          )
      },
    )
  }

  /** A stream that broke off is closed: clients open another, with Last-Event-ID when they have one. */
  #cut(_error: AdapterError): void {
    if (!this.#over) {
      // The sink gave up; the upstream has not.
      this.#finish()
      this.#call?.abort()
    }
    this.#options.exchange.end()
  }

  #finish(): void {
    this.#over = true
    const { session } = this.#options
    session.streams--
    session.sinks.delete(this)
    this.#options.done()
  }
}
