/**
 * What principals may still request here of `core.rate_limit`, which the store counts over all replicas. A principal that is busy is granted several
 * requests at a time, so that most need not ask the store; what of a grant is not used within its second is lost. So no more than
 * `burst + rate * (T + 1 s)` of its requests are let through in any time `T`, over all workers of all replicas.
 */
import { AdapterError } from '../../shared/errors.ts'
import type { StateStore } from '../../shared/state/store.ts'
import type { Exchange } from '../exchange/exchange.ts'
import { fail } from '../exchange/failure.ts'

/** What was granted may be used for so long, in milliseconds. */
const GRANT_LIFE_MS = 1_000
/** A grant is at most this part of a burst: others need theirs. */
const GRANT_SHARE = 10
/** Principals that are remembered before those without a grant are forgotten. */
const MAX_PRINCIPALS = 1_000

interface Allowance {
  left: number
  endsAtMs: number
  /** How many to ask for next. */
  next: number
  waiting: number
  asking: Promise<void> | undefined
  /** The answer to the last question, when it was no. */
  retryAfterMs: number
}

/** See the file comment. One for each worker. */
export class RequestAllowance {
  readonly #store: Pick<StateStore, 'takeRequests'>
  readonly #burst: number
  readonly #maxGrant: number
  readonly #clock: () => number
  readonly #allowances = new Map<string, Allowance>()

  /** `clock` is monotonic, in milliseconds. */
  constructor(
    store: Pick<StateStore, 'takeRequests'>,
    burst: number,
    clock: () => number = () => performance.now(),
  ) {
    this.#store = store
    this.#burst = burst
    this.#maxGrant = Math.max(1, Math.floor(burst / GRANT_SHARE))
    this.#clock = clock
  }

  /** Takes so many requests when they were granted before; false when `take` has to ask. */
  tryTake(principal: string, count = 1): boolean {
    const allowance = this.#allowances.get(principal)
    if (allowance === undefined || allowance.left < count) return false
    if (this.#clock() > allowance.endsAtMs) return false
    allowance.left -= count
    return true
  }

  /** Takes what a batch of so many messages costs beyond the one that its request has taken. As `take`; rejects with ADAPTER_INVALID_REQUEST for more than ever are granted at once. */
  async takeRest(principal: string, messages: number): Promise<number> {
    if (messages > this.#burst) throw tooManyAtOnce(messages, this.#burst)
    return this.take(principal, messages - 1)
  }

  /**
   * Resolves with 0 when so many requests were taken, all of them or none, else with the milliseconds after which to come again. What a question brought
   * that was too little stays granted, as ever for a second. Rejects when the store fails.
   */
  async take(principal: string, count = 1): Promise<number> {
    const allowance = this.#allowanceOf(principal)
    while (!this.tryTake(principal, count)) {
      if (allowance.asking !== undefined) {
        // One question at a time; the next asks for all that waited.
        allowance.waiting += count
        try {
          await allowance.asking
        } finally {
          // Here and not by a callback, so that whoever asks next still counts those that have not gone on.
          allowance.waiting -= count
        }
      } else {
        allowance.asking = this.#ask(principal, allowance, count)
        await allowance.asking
        // The question was this request's: what it brought is its own first.
        if (this.tryTake(principal, count)) return 0
        if (count > 1) return Math.max(GRANT_LIFE_MS, allowance.retryAfterMs)
      }
      if (allowance.retryAfterMs > 0) return allowance.retryAfterMs
    }
    return 0
  }

  async #ask(principal: string, allowance: Allowance, count: number): Promise<void> {
    // More each time that a grant is used up while it counts, and fewer after one that was not.
    const isCurrent = this.#clock() <= allowance.endsAtMs
    const isBusy = isCurrent && allowance.left < count
    allowance.next = isBusy ? Math.min(allowance.next * 2, this.#maxGrant) : 1
    if (!isCurrent) allowance.left = 0
    const { left } = allowance
    allowance.retryAfterMs = 0
    // What is left keeps its time, and what is added to it has no more.
    const endsAtMs = left > 0 ? allowance.endsAtMs : this.#clock() + GRANT_LIFE_MS
    try {
      const taken = await this.#store.takeRequests(
        principal,
        Math.max(allowance.next, allowance.waiting + count - left),
      )
      allowance.left += taken.granted
      allowance.endsAtMs = endsAtMs
      allowance.retryAfterMs = taken.granted > 0 ? 0 : Math.max(1, taken.retryAfterMs)
    } finally {
      allowance.asking = undefined
    }
  }

  #allowanceOf(principal: string): Allowance {
    const known = this.#allowances.get(principal)
    if (known !== undefined) return known
    if (this.#allowances.size >= MAX_PRINCIPALS) this.#forget()
    const allowance = {
      left: 0,
      endsAtMs: 0,
      next: 1,
      waiting: 0,
      asking: undefined,
      retryAfterMs: 0,
    }
    this.#allowances.set(principal, allowance)
    return allowance
  }

  #forget(): void {
    const nowMs = this.#clock()
    for (const [principal, { asking, endsAtMs }] of this.#allowances)
      if (asking === undefined && endsAtMs < nowMs) this.#allowances.delete(principal)
  }
}

/** Answers a request that was not granted. */
export function refuseRate(exchange: Exchange, retryAfterMs: number): void {
  fail(exchange, rateError(retryAfterMs), null, secondsOf(retryAfterMs))
}

/** The error for what was not granted. */
export function rateError(retryAfterMs: number): AdapterError {
  return new AdapterError(
    'ADAPTER_RATE_LIMIT',
    `too many requests: the limit of core.rate_limit is reached; try again in ${secondsOf(retryAfterMs)} s`,
  )
}

function secondsOf(ms: number): number {
  return Math.ceil(ms / 1_000)
}

function tooManyAtOnce(count: number, burst: number): AdapterError {
  return new AdapterError(
    'ADAPTER_INVALID_REQUEST',
    `a batch of ${count} messages is more than core.rate_limit lets through at once (${burst})`,
  )
}
