/** Asks the upstreams in the background whether they live. One worker of a replica does it, for all of them. */
import { AdapterError } from '../../shared/errors.ts'
import type { Breaker } from './breaker.ts'
import { failureOf } from './upstream-failure.ts'
import type { Upstream } from './upstream.ts'

/** While an upstream is waited for at start it is asked more often than later: after these times, in milliseconds, the last one again and again. */
const START_DELAYS_MS = [100, 200, 400, 800, 1_000] as const
/** Pings of many replicas that were started together must not stay together: an interval is so much longer or shorter at most. */
const JITTER = 0.1
/** An upstream without a time limit for calls is believed to be at work for so long, in milliseconds. */
const LONGEST_WORK_MS = 300_000

/** One upstream to ask. */
export interface PingTarget {
  readonly upstream: Upstream
  readonly breaker: Breaker
  /** Null: asked only until it answers for the first time. */
  readonly intervalMs: number | null
  readonly timeoutMs: number
  /** How long a call may take, in milliseconds; null for no limit. */
  readonly callTimeoutMs: number | null
}

/** See the file comment. */
export class Pinger {
  readonly #loops: readonly PingLoop[]

  /** `startWaitMs`: how long upstreams are waited for at the start of the replica, from now on; 0 for a worker that was started again. */
  constructor(targets: readonly PingTarget[], startWaitMs: number) {
    this.#loops = targets
      .filter(({ upstream }) => upstream.probe !== undefined)
      .map((target) => new PingLoop(target, startWaitMs))
  }

  /** Asks all of them for the first time. */
  start(): void {
    for (const loop of this.#loops) loop.start()
  }

  stop(): void {
    for (const loop of this.#loops) loop.stop()
  }
}

/** The pings of one upstream, one after the other. */
class PingLoop {
  readonly #target: PingTarget
  readonly #startWaitMs: number
  #timer: NodeJS.Timeout | undefined
  #startedAtMs = 0
  #countedAtMs = -Infinity
  #tries = 0
  #isStopped = false

  constructor(target: PingTarget, startWaitMs: number) {
    this.#target = target
    this.#startWaitMs = startWaitMs
  }

  start(): void {
    this.#startedAtMs = performance.now()
    this.#target.breaker.vitals.isProbed = true
    void this.#turn()
  }

  stop(): void {
    this.#isStopped = true
    clearTimeout(this.#timer)
  }

  /** Whether the upstream is still waited for. */
  get #isStarting(): boolean {
    const waitedMs = performance.now() - this.#startedAtMs
    return !this.#target.breaker.vitals.hasAnswered && waitedMs < this.#startWaitMs
  }

  async #turn(): Promise<void> {
    const { vitals } = this.#target.breaker
    const state = this.#target.breaker.present()
    // Requests have been answered since the last look: that is better proof than any ping.
    const isProven = state === 'closed' && vitals.hasAnswered && !vitals.isSilent
    const isToBeAsked = state !== 'open' || this.#isStarting
    vitals.listen()
    if (!isProven && isToBeAsked) await this.#ping()
    const delayMs = this.#delayMs()
    if (this.#isStopped || delayMs === null) return
    this.#timer = setTimeout(() => void this.#turn(), delayMs)
    this.#timer.unref()
  }

  /** Until the next turn; null when there is none. */
  #delayMs(): number | null {
    const { intervalMs } = this.#target
    const delayMs =
      intervalMs === null ? null : intervalMs * (1 - JITTER + 2 * JITTER * Math.random())
    if (!this.#isStarting) return delayMs
    const startDelayMs = START_DELAYS_MS[this.#tries++] ?? START_DELAYS_MS.at(-1) ?? 1_000
    return Math.min(startDelayMs, delayMs ?? Infinity)
  }

  async #ping(): Promise<void> {
    const { upstream, breaker, timeoutMs } = this.#target
    const wasStarting = this.#isStarting
    const sentAtMs = performance.now()
    try {
      await upstream.probe?.(timeoutMs)
    } catch (error) {
      if (this.#isStopped) return
      const told = error instanceof AdapterError ? error : undefined
      const failure = (told && failureOf(told)) ?? 'unreachable'
      const isCounted =
        !(failure === 'timeout' && this.#isAtWork(sentAtMs)) && this.#isDue(wasStarting, sentAtMs)
      breaker.pingFailed(failure, performance.now() - sentAtMs, isCounted, told?.message)
      return
    }
    if (!this.#isStopped) breaker.pingAnswered(performance.now() - sentAtMs, wasStarting)
  }

  /** At start an upstream is asked more often than once in an interval, but fails no more often than that. */
  #isDue(isStart: boolean, sentAtMs: number): boolean {
    const { intervalMs } = this.#target
    if (isStart && sentAtMs - this.#countedAtMs < (intervalMs ?? Infinity) * (1 - JITTER))
      return false
    this.#countedAtMs = sentAtMs
    return true
  }

  /**
   * A server that does one thing at a time does not answer pings meanwhile. It is believed to be at work when it has answered something since the ping was
   * sent, or has requests in hand and its last answer is not longer ago than a request may take.
   */
  #isAtWork(sentAtMs: number): boolean {
    const { breaker, callTimeoutMs } = this.#target
    const { vitals } = breaker
    if (vitals.hasAnsweredWithin(Math.floor(performance.now() - sentAtMs))) return true
    return vitals.inFlight > 0 && vitals.hasAnsweredWithin(callTimeoutMs ?? LONGEST_WORK_MS)
  }
}
