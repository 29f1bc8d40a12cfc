/** The calls that a bound session has in flight: who waits for which response and which progress, and whose an unmarked message is. */
import type { JsonObject } from '../../../shared/state/records.ts'
import { findByResponseId, idKey, isObject } from '../../exchange/json-rpc.ts'
import type { Message } from '../../exchange/json-rpc.ts'
import type { BoundAnswer } from './bound-answer.ts'

type Request = Extract<Message, { kind: 'request' }>

/** Responses that are still to come though nobody waits for them: so many are remembered. */
const MAX_ABANDONED = 1_024

/** One POST with requests, until all are answered. */
export interface BoundCall {
  readonly answer: BoundAnswer
  readonly isBatch: boolean
  /** Keys of the requests without a response. */
  readonly waiting: Set<string>
  /** Keys of their progress tokens. */
  readonly tokens: readonly string[]
  /** What is to happen to it later; cleared when it is removed. */
  timer: NodeJS.Timeout | undefined
}

/** See the file comment. One per session. */
export class CallTable {
  readonly #calls = new Set<BoundCall>()
  readonly #byId = new Map<string, BoundCall>()
  readonly #byToken = new Map<string, BoundCall>()
  readonly #abandoned = new Set<string>()

  /** The only call in flight, if there is just one. */
  get only(): BoundCall | undefined {
    return this.#calls.size === 1 ? this.oldest : undefined
  }

  get oldest(): BoundCall | undefined {
    return this.#calls.values().next().value
  }

  /** Whether the upstream still works on a request with one of these ids, so that two answers could not be told apart. */
  hasAny(requests: readonly Request[]): boolean {
    return requests.some(({ id }) => this.#byId.has(idKey(id)) || this.#abandoned.has(idKey(id)))
  }

  add(answer: BoundAnswer, isBatch: boolean, requests: readonly Request[]): BoundCall {
    const call: BoundCall = {
      answer,
      isBatch,
      waiting: new Set(requests.map(({ id }) => idKey(id))),
      tokens: requests.flatMap(({ params }) => tokenOf(params)),
      timer: undefined,
    }
    this.#calls.add(call)
    for (const key of call.waiting) this.#byId.set(key, call)
    for (const token of call.tokens) this.#byToken.set(token, call)
    return call
  }

  /** Who waits for the response with this id; it has come now. */
  take(id: unknown): BoundCall | undefined {
    return findByResponseId(id, (key) => {
      this.#abandoned.delete(key)
      const call = this.#byId.get(key)
      this.#byId.delete(key)
      call?.waiting.delete(key)
      return call
    })
  }

  /** Who waits for a request with this id, by its value in a notification. */
  ofRequest(id: unknown): BoundCall | undefined {
    return this.#byId.get(idKey(id))
  }

  ofProgress(params: unknown): BoundCall | undefined {
    return isObject(params) ? this.#byToken.get(idKey(params['progressToken'])) : undefined
  }

  /** Nobody waits for it any more. Responses that are missing may still come. */
  remove(call: BoundCall): void {
    if (!this.#calls.delete(call)) return
    clearTimeout(call.timer)
    for (const key of call.waiting) {
      this.#byId.delete(key)
      this.#abandoned.add(key)
    }
    for (const token of call.tokens) {
      if (this.#byToken.get(token) === call) this.#byToken.delete(token)
    }
    for (const key of this.#abandoned) {
      if (this.#abandoned.size <= MAX_ABANDONED) break
      this.#abandoned.delete(key)
    }
  }

  /** Its requests were never sent, so that their ids are free. */
  withdraw(call: BoundCall): void {
    for (const key of call.waiting) this.#byId.delete(key)
    call.waiting.clear()
    this.remove(call)
  }

  /** Takes all out. */
  clear(): readonly BoundCall[] {
    const calls = [...this.#calls]
    for (const call of calls) this.remove(call)
    return calls
  }
}

function tokenOf(params: JsonObject | undefined): string[] {
  const meta = params?.['_meta']
  return isObject(meta) && meta['progressToken'] !== undefined ? [idKey(meta['progressToken'])] : []
}
