/** One POST on its way upstream and back: picks how the answer is handed on, repeats it when the upstream session was lost, bounds its time. */
import type { ServerConfig } from '../../shared/config/config.ts'
import { DATA_HEADERS } from '../../shared/data-headers.ts'
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import type { PendingRewrite } from '../session/session.ts'
import type { CallOutcome } from '../metrics/call-metrics.ts'
import { withoutHeader } from '../upstream/forwarded-headers.ts'
import type { AnswerListener, Upstream, UpstreamCall } from '../upstream/upstream.ts'
import { credentialRefusal } from './credential-refusal.ts'
import { AnswerProgress } from './answer-progress.ts'
import { isEventStream, isJson } from './media-type.ts'
import { JsonSink } from './json-sink.ts'
import { RawSink } from './raw-sink.ts'
import { SseSink } from './sse-sink.ts'
import { toAdapterError } from './adapter-error.ts'
import type { AnswerSink } from './answer-sink.ts'
import type { Exchange } from './exchange.ts'
import type { RequestId } from './json-rpc.ts'
import { mayHoldRequest } from './event-messages.ts'
import { messageEvent } from './sse.ts'
import type { ListWatch } from './list-watch.ts'
import { mayHoldTools } from './tool-list-scanner.ts'

/** What a POST is made of and what surrounds it. */
export interface ForwardedPostOptions {
  readonly exchange: Exchange
  readonly server: ServerConfig
  readonly upstream: Pick<Upstream, 'call'>
  readonly body: Uint8Array | string
  /** Builds the upstream headers; called again for a repetition, when the upstream's session id has changed. */
  readonly headers: () => HeaderList
  /** Ids of the requests in the body: on failure each gets an error. */
  readonly requestIds: readonly RequestId[]
  readonly isSafe: boolean
  readonly rewrites: Map<string, PendingRewrite>
  /** Responses that were made here and belong into the same answer. */
  readonly locals: readonly JsonObject[]
  /** Looks at what is not rewritten; undefined where that can do no harm. */
  readonly watch: ListWatch | undefined
  readonly maxResponseBytes: number
  /** Longest silence of the upstream, in milliseconds; null for none. */
  readonly timeoutMs: number | null
  /** Tries to get the lost upstream session back; undefined when there is none to lose. */
  readonly recover: (() => Promise<boolean>) | undefined
  readonly recoveries: number
  /** The upstream did not answer in time: cancel there what can be cancelled. */
  readonly onTimeout: () => void
  /** Looks at each event of an answer first and answers what is left of it for the client; undefined where nothing has to be looked for. */
  readonly intercept?: ((event: Uint8Array) => Uint8Array | undefined) | undefined
  /** Rewrites whose response may still come on a resumed stream. */
  readonly suspend: ((key: string, rewrite: PendingRewrite) => void) | undefined
  /** Called once, when the exchange is over. */
  readonly done: (outcome: CallOutcome) => void
}

/** Ends whatever event was cut in the middle. Clients skip blank lines. */
const BLANK_LINES = Buffer.from('\n\n')

/** Server-to-client requests that wait for a person or a model: while one is open, silence is not failure. */
const WAITS_FOR_PERSON = ['elicitation/create', 'sampling/createMessage'] as const
const WAITS_FOR_CLIENT = [...WAITS_FOR_PERSON, 'roots/list'] as const

/** See the file comment. */
export class ForwardedPost implements AnswerListener {
  readonly #options: ForwardedPostOptions
  #call: UpstreamCall | undefined
  #sink: AnswerSink | undefined
  #recoveriesLeft: number
  #timer: NodeJS.Timeout | undefined
  #progress: AnswerProgress | undefined
  #isStream = false
  /** Of the upstream's answer. */
  #status = 0
  #over = false

  constructor(options: ForwardedPostOptions) {
    this.#options = options
    this.#recoveriesLeft = options.recover === undefined ? 0 : options.recoveries
  }

  start(): void {
    this.#options.exchange.onAbort(() => this.#clientGone())
    this.#send()
  }

  head(status: number, headers: HeaderList): void {
    if (this.#over) return
    if (status === 404 && this.#recoveriesLeft > 0) {
      this.#recoveriesLeft--
      this.#call?.abort()
      this.#recover()
      return
    }
    const refusal = credentialRefusal(status, this.#options.server)
    if (refusal !== undefined) {
      this.#failBeforeHead(refusal)
      return
    }
    if (this.#mustRefuse(status, headers)) {
      this.#failBeforeHead(
        new AdapterError(
          'ADAPTER_UPSTREAM_INVALID',
          'the upstream server answered with a content type that is not MCP, and the answer has to be looked at',
        ),
      )
      return
    }
    this.#status = status
    try {
      this.#sink = this.#openSink(status, withoutHeader(headers, 'mcp-session-id'))
    } catch (error) {
      this.#failBeforeHead(toAdapterError(error))
      return
    }
    if (this.#options.timeoutMs !== null) this.#progress = new AnswerProgress(this.#isStream)
    this.#restartTimer()
  }

  data(chunk: Uint8Array): void {
    if (this.#over) return
    // Looked at first: the sink may give the bytes away.
    const { timeoutMs, intercept } = this.#options
    const waits =
      timeoutMs !== null && this.#isStream && waitsForClient(chunk, intercept !== undefined)
    const getsOn = this.#progress?.take(chunk) === true
    this.#sink?.data(chunk)
    if (waits) this.#stopTimer()
    else if (getsOn) this.#restartTimer()
  }

  end(): void {
    if (this.#over) return
    this.#finish(this.#status < 400 ? 'success' : 'error')
    try {
      this.#sink?.end()
    } catch (error) {
      // An error could not be told any more, and a client must not wait for the rest.
      this.#settleRewrites(false)
      this.#options.exchange.reset()
      throw error
    }
  }

  error(error: AdapterError): void {
    if (this.#over) return
    this.#finish(error.code === 'ADAPTER_UPSTREAM_TIMEOUT' ? 'timeout' : 'error')
    if (this.#sink === undefined) this.#failBeforeHead(error)
    else this.#sink.error(error)
  }

  #send(): void {
    const { upstream, headers, body, isSafe, requestIds } = this.#options
    this.#restartTimer()
    this.#call = upstream.call(
      { method: 'POST', headers: headers(), body, isSafe, isFollowUp: requestIds.length === 0 },
      this,
    )
  }

  #recover(): void {
    this.#stopTimer()
    const { recover } = this.#options
    if (recover === undefined) return
    recover().then(
      (recovered) => {
        if (this.#over) return
        if (recovered) this.#send()
        else {
          this.error(
            new AdapterError(
              'ADAPTER_SESSION_UNKNOWN',
              'the upstream server ended this session and does not open it again; initialize a new one',
            ),
          )
        }
      },
      (error: unknown) => this.error(toAdapterError(error)),
    )
  }

  /** Whether something that has to be looked at comes in a form that can't be: some client might make sense of it all the same. */
  #mustRefuse(status: number, headers: HeaderList): boolean {
    if (status >= 300 || isEventStream(headers) || isJson(headers)) return false
    return [...this.#options.rewrites.values()].some(({ isRequired }) => isRequired === true)
  }

  #openSink(status: number, headers: HeaderList): AnswerSink {
    const { exchange, rewrites, locals, maxResponseBytes, intercept, watch } = this.#options
    const call = this.#call
    if (call === undefined) throw new Error('an answer before its request')
    const head = { status, headers }
    this.#isStream = isEventStream(headers)
    const scanner = watch?.scanner(headers)
    const isLookedAt = this.#isStream && intercept !== undefined
    if (rewrites.size > 0 || locals.length > 0 || isLookedAt) {
      if (this.#isStream) {
        return new SseSink({
          intercept,
          exchange,
          head,
          take: (key) => take(rewrites, key),
          passes: rewrites.size > 0 ? undefined : (event) => this.#needsNoLook(event),
          watch,
          known: [...rewrites.values()].find((rewrite) => rewrite.known !== undefined)?.known,
          locals,
          maxBytes: maxResponseBytes,
          call,
          onEnd: (resumable) => this.#settleRewrites(resumable),
          onCut: (error, resumable) => this.#cut(error, resumable),
        })
      }
      const isEmpty = locals.length > 0 && !isJson(headers)
      if (status < 300 && (isJson(headers) || isEmpty)) {
        return new JsonSink({
          exchange,
          head: isEmpty ? { status: 200, headers: ['content-type', 'application/json'] } : head,
          rewrites,
          locals,
          watch,
          maxBytes: maxResponseBytes,
          call,
          fail: (error) => this.#failBeforeHead(error),
        })
      }
      this.#settleRewrites(false)
    }
    const sink = new RawSink(
      exchange,
      head,
      call,
      (error, resumable) => {
        if (sink.hasBegun) this.#cut(error, resumable)
        else this.#failBeforeHead(error)
      },
      { waits: true, watched: watch && scanner && { watch, scanner } },
    )
    return sink
  }

  /** Whether an event of an answer in which nothing is rewritten may go on as it is. */
  #needsNoLook(event: Uint8Array): boolean {
    return !mayHoldRequest(event) && (this.#options.watch === undefined || !mayHoldTools(event))
  }

  /** The upstream's answer broke off after its head. A client that can resume must see the cut; any other must get an error, or it would wait. */
  #cut(error: AdapterError, resumable: boolean): void {
    const { exchange, requestIds } = this.#options
    this.#stopUpstream()
    this.#settleRewrites(resumable)
    if (resumable || !this.#isStream) {
      exchange.reset()
      return
    }
    exchange.write(BLANK_LINES)
    for (const id of requestIds) exchange.write(messageEvent(error.toJsonRpc(id)))
    exchange.end()
  }

  #failBeforeHead(error: AdapterError): void {
    const { exchange, requestIds } = this.#options
    this.#stopUpstream()
    this.#settleRewrites(false)
    exchange.noteRefusal?.(error)
    const [first = null] = requestIds
    const retryAfter =
      error.status === 503 ? ['retry-after', String(error.retryAfterSeconds ?? 1)] : []
    exchange.respond(
      error.status,
      ['content-type', 'application/json', ...DATA_HEADERS, ...retryAfter],
      requestIds.length > 1
        ? `[${requestIds.map((id) => error.toJsonRpc(id)).join(',')}]`
        : error.toJsonRpc(first),
    )
  }

  /** A sink can give up while the upstream goes on. */
  #stopUpstream(): void {
    if (this.#over) return
    this.#finish('error')
    this.#call?.abort()
  }

  #settleRewrites(resumable: boolean): void {
    const { rewrites, suspend } = this.#options
    for (const [key, rewrite] of rewrites) {
      if (resumable && suspend !== undefined) suspend(key, rewrite)
      else rewrite.abandon()
    }
    rewrites.clear()
  }

  #clientGone(): void {
    if (this.#over) return
    this.#finish('cancelled')
    this.#call?.abort()
    if (this.#sink === undefined) this.#settleRewrites(false)
    else this.#sink.abandon()
  }

  #timedOut(): void {
    if (this.#over) return
    const timeoutMs = this.#options.timeoutMs ?? 0
    this.#options.onTimeout()
    this.#call?.abort(timeoutMs)
    const seconds = timeoutMs / 1_000
    this.error(
      new AdapterError(
        'ADAPTER_UPSTREAM_TIMEOUT',
        `the upstream server sent nothing for ${seconds} s that brings its answer on; the request was cancelled`,
      ),
    )
  }

  #restartTimer(): void {
    const { timeoutMs } = this.#options
    if (timeoutMs === null || this.#over) return
    if (this.#timer === undefined) this.#timer = setTimeout(() => this.#timedOut(), timeoutMs)
    else this.#timer.refresh()
  }

  #stopTimer(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #finish(outcome: CallOutcome): void {
    this.#over = true
    this.#stopTimer()
    this.#options.done(outcome)
  }
}

function take(rewrites: Map<string, PendingRewrite>, key: string): PendingRewrite | undefined {
  const rewrite = rewrites.get(key)
  rewrites.delete(key)
  return rewrite
}

/** A look at bytes, good enough to hold a timer by; nothing else is decided from it. Where the adapter has the roots, nobody waits for them. */
function waitsForClient(chunk: Uint8Array, hasRoots: boolean): boolean {
  const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
  return (hasRoots ? WAITS_FOR_PERSON : WAITS_FOR_CLIENT).some((method) => bytes.includes(method))
}
