/**
 * An upstream behind its breaker and within its limit of requests at a time. Whatever goes upstream passes here, so that nothing is missed: clients'
 * requests, those of scripts, and our own. New requests (POST) are guarded; GET and DELETE pass, as they go on with, or end, what is there.
 */
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { Breaker } from './breaker.ts'
import { refusedCall } from './refused-call.ts'
import { failureOf } from './upstream-failure.ts'
import type { AnswerListener, Upstream, UpstreamCall, UpstreamRequest } from './upstream.ts'

/** From this status on an answer says that the upstream can't serve. */
const SERVER_ERROR = 500
const CLIENT_ERROR = 400

/** What a guard is made of. */
export interface GuardOptions {
  readonly upstream: Upstream
  readonly breaker: Breaker
  /** Requests at a time of this worker; null for no limit. */
  readonly maxInFlight: number | null
  readonly connectTimeoutMs: number
}

/** See the file comment. */
export class GuardedUpstream implements Upstream {
  readonly #upstream: Upstream
  readonly #breaker: Breaker
  readonly #maxInFlight: number
  readonly #connectTimeoutMs: number
  #inFlight = 0

  constructor(options: GuardOptions) {
    this.#upstream = options.upstream
    this.#breaker = options.breaker
    this.#maxInFlight = options.maxInFlight ?? Infinity
    this.#connectTimeoutMs = options.connectTimeoutMs
  }

  call(request: UpstreamRequest, listener: AnswerListener): UpstreamCall {
    if (request.method !== 'POST') return this.#upstream.call(request, listener)
    const breaker = this.#breaker
    let isTrial = false
    if (request.isFollowUp !== true) {
      // First, so that a request that is refused takes no place of a trial.
      if (this.#inFlight >= this.#maxInFlight) {
        breaker.refused('max_in_flight')
        return refusedCall(listener, busy(this.#maxInFlight))
      }
      const admission = breaker.admit()
      if (typeof admission === 'object') return refusedCall(listener, down(admission))
      isTrial = admission === 'trial'
    }
    const call = new GuardedCall(listener, breaker, isTrial, this.#connectTimeoutMs, this.#leave)
    breaker.inFlight = ++this.#inFlight
    call.start(this.#upstream, request)
    return call
  }

  close(): Promise<void> {
    return this.#upstream.close()
  }

  readonly #leave = (): void => {
    this.#breaker.inFlight = --this.#inFlight
  }
}

/** One POST, watched from its sending to its end. */
class GuardedCall implements AnswerListener, UpstreamCall {
  readonly #listener: AnswerListener
  readonly #breaker: Breaker
  readonly #connectTimeoutMs: number
  readonly #leave: () => void
  readonly #signsBefore: number
  readonly #wasTrial: boolean
  #isTrial: boolean
  #call: UpstreamCall | undefined
  /** Whether anything was heard of the upstream. */
  #isHeard = false
  /** Whether the answer that has begun is proof of life. */
  #isAnswer = false
  /** Whether the answer is this side's, from its head to its end. */
  #isRefusal = false
  #isOver = false

  constructor(
    listener: AnswerListener,
    breaker: Breaker,
    isTrial: boolean,
    connectTimeoutMs: number,
    leave: () => void,
  ) {
    this.#listener = listener
    this.#breaker = breaker
    this.#wasTrial = isTrial
    this.#isTrial = isTrial
    this.#connectTimeoutMs = connectTimeoutMs
    this.#leave = leave
    this.#signsBefore = breaker.signs
  }

  start(upstream: Upstream, request: UpstreamRequest): void {
    this.#call = upstream.call(request, this)
  }

  head(status: number, headers: HeaderList, isOurs = false): void {
    if (!isOurs) this.#hears(status < SERVER_ERROR ? undefined : `status ${status}`)
    // A refusal of ours is ours to its end; a stream that we begin brings the upstream's messages.
    else this.#isRefusal = status >= CLIENT_ERROR
    this.#listener.head(status, headers)
  }

  data(chunk: Uint8Array): void {
    if (!this.#isHeard && !this.#isRefusal) this.#hears()
    else if (this.#isAnswer) this.#breaker.lives()
    this.#listener.data(chunk)
  }

  end(): void {
    this.#finish()
    this.#listener.end()
  }

  error(error: AdapterError): void {
    const failure = this.#isOver || this.#isHeard ? undefined : failureOf(error)
    if (failure === 'timeout') this.#waited(this.#connectTimeoutMs)
    else if (failure !== undefined) {
      // No connection could be made: that has nothing to do with what was asked for.
      const isCertain = failure === 'unreachable' && this.#call?.hasLeft === false
      this.#breaker.failed(failure, this.#wasTrial, { reason: error.message, isCertain })
    }
    this.#finish()
    this.#listener.error(error)
  }

  abort(waitedMs?: number): void {
    if (!this.#isOver && !this.#isHeard && waitedMs !== undefined) this.#waited(waitedMs)
    this.#finish()
    this.#call?.abort(waitedMs)
  }

  pause(): void {
    this.#call?.pause()
  }

  resume(): void {
    this.#call?.resume()
  }

  /** The upstream says its first word. `reason`: what is wrong with the answer; undefined when it is proof of life. */
  #hears(reason?: string): void {
    this.#isHeard = true
    this.#isAnswer = reason === undefined
    if (reason === undefined) this.#breaker.answered()
    else this.#breaker.failed('server_error', this.#wasTrial, { reason })
    if (this.#isTrial) this.#endTrial()
  }

  #waited(ms: number): void {
    this.#breaker.waitedInVain(ms, this.#signsBefore, this.#wasTrial)
  }

  #endTrial(): void {
    this.#isTrial = false
    this.#breaker.endTrial()
  }

  #finish(): void {
    if (this.#isOver) return
    this.#isOver = true
    if (this.#isTrial) this.#endTrial()
    this.#leave()
  }
}

function down({ retryAfterSeconds }: { readonly retryAfterSeconds: number }): AdapterError {
  return new AdapterError(
    'ADAPTER_UPSTREAM_DOWN',
    `the upstream server failed several times in a row and is given time to recover; try again in ${retryAfterSeconds} s`,
    { retryAfterSeconds },
  )
}

function busy(limit: number): AdapterError {
  return new AdapterError(
    'ADAPTER_UPSTREAM_BUSY',
    `servers[].upstream.max_in_flight (${limit}) requests to the upstream server are under way; try again shortly`,
  )
}
