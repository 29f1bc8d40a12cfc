/**
 * The circuit breaker of one upstream server. It closes nothing that works: it only has new requests refused at once, which would otherwise each wait for
 * an upstream that does not answer.
 *
 * What requests alone say may be one client's doing, who asks for what always fails. So, when they failed often enough, the upstream is asked once itself,
 * as a ping does, and the breaker opens when that fails, too. Only where no connection can be made there is nothing to ask.
 *
 * It is one for the whole replica (see `UpstreamVitals`): what three workers each saw twice are six failures, clients get the same answer whichever
 * worker owns their session, and an upstream that comes back is tried by a few requests, not by a few of each worker. Across replicas there is none:
 * whether an upstream can be reached may differ between machines.
 */
import type { BreakerState, ServerVitals, UpstreamFailure } from '../../shared/upstream-vitals.ts'

/** `servers[].upstream_ping`, as far as it concerns the breaker. */
export interface BreakerPolicy {
  readonly failureThreshold: number
  readonly openCooldownSeconds: number
  readonly halfOpenProbeAllowance: number
}

/** Why a request is refused. */
export type RefusalReason = 'breaker_open' | 'breaker_half_open' | 'max_in_flight'

/** Hears what happens to a server's upstream, in the worker where it happens: for metrics and logs. Nothing may be thrown. */
export interface UpstreamEvents {
  /** `failure` undefined: it answered. `isCounted` false: it failed, but that says nothing, because the upstream is at work. */
  onPing?(ping: {
    readonly latencyMs: number
    readonly failure: UpstreamFailure | undefined
    readonly isCounted: boolean
    readonly stateBefore: BreakerState
  }): void
  /** `reason`: what the failure that opened it said, without a secret; undefined where it did not open. */
  onTransition?(from: BreakerState, to: BreakerState, reason?: string): void
  onRefused?(reason: RefusalReason): void
}

/** What more is known of a failure. */
export interface FailureDetail {
  /** What it said, without a secret; by default its kind. */
  readonly reason?: string
  /** Whatever was asked for, it would have failed: there is nothing to ask the upstream. */
  readonly isCertain?: boolean
}

/** How a request may go on: as one of many, as a trial whose outcome decides, or not, for so many seconds. */
export type Admission = 'pass' | 'trial' | { readonly retryAfterSeconds: number }

/** What a breaker is made of. */
export interface BreakerOptions {
  readonly vitals: ServerVitals
  /** Which worker this is. */
  readonly worker: number
  /** Null: there is no breaker, and everything passes. */
  readonly policy: BreakerPolicy | null
  /** Asks the upstream itself, and has it told as a ping; bounded, and never rejects. Undefined where that can't be: then requests alone open the breaker. */
  readonly ask?: (() => Promise<void>) | undefined
  readonly events: UpstreamEvents
}

/** See the file comment. One per worker and server. */
export class Breaker {
  /** Signs of life that this worker has seen; only differences mean anything. */
  signs = 0
  readonly vitals: ServerVitals
  readonly #worker: number
  readonly #policy: BreakerPolicy | null
  readonly #ask: (() => Promise<void>) | undefined
  readonly #events: UpstreamEvents

  constructor(options: BreakerOptions) {
    this.vitals = options.vitals
    this.#worker = options.worker
    this.#policy = options.policy
    this.#ask = options.ask
    this.#events = options.events
  }

  /** Decides about a new request. After `trial`, `endTrial` must follow. */
  admit(): Admission {
    const { vitals } = this
    // The one comparison that a request costs.
    if (vitals.isClosed || this.#policy === null) return 'pass'
    const state = this.present()
    if (state === 'closed') return 'pass'
    if (state === 'open') {
      this.#events.onRefused?.('breaker_open')
      return { retryAfterSeconds: Math.max(1, Math.ceil(vitals.openForMs / 1_000)) }
    }
    if (vitals.takeTrial(this.#worker, this.#policy.halfOpenProbeAllowance)) return 'trial'
    this.#events.onRefused?.('breaker_half_open')
    return { retryAfterSeconds: 1 }
  }

  /** A trial has an outcome, or nobody waits for one any more. */
  endTrial(): void {
    this.vitals.endTrial(this.#worker)
  }

  /** The state; one that was open for long enough becomes half-open by being asked for. */
  present(): BreakerState {
    const { vitals } = this
    const { state } = vitals
    if (state !== 'open' || vitals.openForMs > 0) return state
    vitals.clearSuccesses()
    if (vitals.change('open', 'half_open')) this.#events.onTransition?.('open', 'half_open')
    vitals.listen()
    return vitals.state
  }

  /** The upstream answered a request. What was sent before it was opened proves life, too. */
  answered(): void {
    this.signs++
    // The one comparison that an answer costs.
    if (this.vitals.isSilent) this.#noteSuccess()
  }

  /** Something more came of an answer that had begun: it lives, but that is no trial. */
  lives(): void {
    this.signs++
    if (!this.vitals.isSilent) return
    if (this.vitals.isClosed) this.#noteSuccess()
    else {
      this.vitals.noteAnswer()
      this.vitals.listen()
    }
  }

  /** The upstream could not be reached, or answered that it can't serve. While half-open only trials count: the others were sent to the one that failed. */
  failed(failure: UpstreamFailure, isTrial: boolean, told: FailureDetail = {}): void {
    const { vitals } = this
    if (this.#policy === null) return
    vitals.noteFailure(failure)
    vitals.listen()
    switch (vitals.state) {
      case 'closed':
        if (vitals.addFailure() >= this.#policy.failureThreshold)
          this.#opens('closed', failure, told)
        return
      case 'half_open':
        if (isTrial) this.#opens('half_open', failure, told)
        return
      case 'open':
    }
  }

  /**
   * An answer was waited for `ms` in vain. That is a failure only if the upstream answered nobody else in that time: one slow tool is no reason to refuse
   * what others ask. `signsBefore`: `signs` when the wait began.
   */
  waitedInVain(ms: number, signsBefore: number, isTrial: boolean): void {
    if (this.signs === signsBefore && !this.vitals.hasAnsweredWithin(ms))
      this.failed('timeout', isTrial, { reason: `no answer within ${ms} ms` })
  }

  /** A ping was answered. `isStart`: by an upstream that was still being waited for, so that there is nothing to be careful with. */
  pingAnswered(latencyMs: number, isStart: boolean): void {
    const { vitals } = this
    const stateBefore = vitals.state
    vitals.notePing({ latencyMs })
    this.#noteSuccess()
    if (isStart) this.#close()
    this.#events.onPing?.({ latencyMs, failure: undefined, isCounted: true, stateBefore })
  }

  /** A ping failed. `isCounted`: that says something about the upstream. */
  pingFailed(
    failure: UpstreamFailure,
    latencyMs: number,
    isCounted: boolean,
    reason: string = failure,
  ): void {
    const stateBefore = this.vitals.state
    if (isCounted) {
      this.vitals.notePing({ failure })
      this.failed(failure, true, { reason, isCertain: true })
    }
    this.#events.onPing?.({ latencyMs, failure, isCounted, stateBefore })
  }

  /** How many requests this worker has under way. */
  set inFlight(count: number) {
    this.vitals.setInFlight(this.#worker, count)
  }

  /** A request is refused for another reason. */
  refused(reason: RefusalReason): void {
    this.#events.onRefused?.(reason)
  }

  #noteSuccess(): void {
    const { vitals } = this
    vitals.noteAnswer()
    switch (vitals.state) {
      case 'closed':
        vitals.clearFailures()
        return
      case 'half_open':
        if (vitals.addSuccess() >= (this.#policy?.halfOpenProbeAllowance ?? 1)) this.#close()
        // The next ones count as well.
        else vitals.listen()
        return
      case 'open':
        vitals.listen()
    }
  }

  /** Asks before, where that makes a difference, and nobody of the replica does. Requests go on meanwhile. */
  #opens(
    from: BreakerState,
    failure: UpstreamFailure,
    { reason = failure, isCertain = false }: FailureDetail,
  ): void {
    const { vitals } = this
    if (isCertain || this.#ask === undefined) this.#open(from, reason)
    else if (vitals.beginAsking(this.#worker))
      void this.#ask().finally(() => vitals.endAsking(this.#worker))
  }

  #open(from: BreakerState, reason: string): void {
    const { vitals } = this
    // Before the state says so: who sees that it is open asks for how long.
    vitals.openForMs = (this.#policy?.openCooldownSeconds ?? 0) * 1_000
    if (vitals.change(from, 'open')) this.#events.onTransition?.(from, 'open', reason)
  }

  #close(): void {
    const { vitals } = this
    vitals.clearFailures()
    for (const from of ['half_open', 'open'] as const)
      if (vitals.change(from, 'closed')) this.#events.onTransition?.(from, 'closed')
  }
}
