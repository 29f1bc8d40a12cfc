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
    this.#maxGrant = Math.max(1, Math.floor(burst / GRANT_SHARE))
    this.#clock = clock
  }

  /** Takes one request when one was granted before; false when `take` has to ask. */
  tryTake(principal: string): boolean {
    const allowance = this.#allowances.get(principal)
    if (allowance === undefined || allowance.left === 0) return false
    if (this.#clock() > allowance.endsAtMs) return false
    allowance.left--
    return true
  }

  /** Resolves with 0 when a request was taken, else with the milliseconds after which one may be. Rejects when the store fails. */
  async take(principal: string): Promise<number> {
    const allowance = this.#allowanceOf(principal)
    while (!this.tryTake(principal)) {
      if (allowance.asking !== undefined) {
        // One question at a time; the next asks for all that waited.
        allowance.waiting++
        try {
          await allowance.asking
        } finally {
          // Here and not by a callback, so that whoever asks next still counts those that have not gone on.
          allowance.waiting--
        }
      } else {
        allowance.asking = this.#ask(principal, allowance)
        await allowance.asking
        // The question was this request's: what it brought is its own first.
        if (this.tryTake(principal)) return 0
      }
      if (allowance.retryAfterMs > 0) return allowance.retryAfterMs
    }
    return 0
  }

  async #ask(principal: string, allowance: Allowance): Promise<void> {
    // More each time that a grant is used up while it counts, and fewer after one that was not.
    const isBusy = allowance.left === 0 && this.#clock() <= allowance.endsAtMs
    allowance.next = isBusy ? Math.min(allowance.next * 2, this.#maxGrant) : 1
    allowance.left = 0
    allowance.retryAfterMs = 0
    const endsAtMs = this.#clock() + GRANT_LIFE_MS
    try {
      const taken = await this.#store.takeRequests(
        principal,
        Math.max(allowance.next, allowance.waiting + 1),
      )
      allowance.left = taken.granted
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
  const seconds = Math.ceil(retryAfterMs / 1_000)
  const error = new AdapterError(
    'ADAPTER_RATE_LIMIT',
    `too many requests: the limit of core.rate_limit is reached; try again in ${seconds} s`,
  )
  fail(exchange, error, null, seconds)
}
