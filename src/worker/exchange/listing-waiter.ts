/** A request for a listing that is answered from memory, or by what another request brings. */
import type { AdapterError } from '../../shared/errors.ts'
import type { AnswerListener, UpstreamCall } from '../upstream/upstream.ts'
import { toAdapterError } from './adapter-error.ts'
import type { RequestId } from './json-rpc.ts'
import { withId } from './known-answers.ts'
import type { Around } from './known-answers.ts'

/** Longest wait for what another request brings, in milliseconds. */
const MAX_WAIT_MS = 10_000

const HEAD = ['content-type', 'application/json'] as const

/** See the file comment. */
export class ListingWaiter implements UpstreamCall {
  readonly #id: RequestId
  readonly #listener: AnswerListener
  readonly #ask: () => UpstreamCall
  readonly #onLeft: (waitedMs: number | undefined) => void
  readonly #timer: NodeJS.Timeout
  #call: UpstreamCall | undefined
  #isOver = false

  /** `ask` sends the request by itself; `onLeft` is called when the wait ends without a word from whom it is for. */
  constructor(
    id: RequestId,
    listener: AnswerListener,
    ask: () => UpstreamCall,
    onLeft: (waitedMs: number | undefined) => void,
    maxWaitMs: number = MAX_WAIT_MS,
  ) {
    this.#id = id
    this.#listener = listener
    this.#ask = ask
    this.#onLeft = onLeft
    this.#timer = setTimeout(() => {
      this.askItself()
      this.#onLeft(undefined)
    }, maxWaitMs)
  }

  answer(around: Around): void {
    if (!this.#finish()) return
    deliver(around, this.#id, this.#listener, () => this.#call !== undefined)
  }

  fail(error: AdapterError): void {
    if (this.#finish()) this.#listener.error(error)
  }

  askItself(): void {
    if (this.#finish()) this.#call = this.#ask()
  }

  abort(waitedMs?: number): void {
    if (this.#finish()) this.#onLeft(waitedMs)
    else this.#call?.abort(waitedMs)
    this.#call = NO_CALL
  }

  pause(): void {
    this.#call?.pause()
  }

  resume(): void {
    this.#call?.resume()
  }

  /** False when it was over already. */
  #finish(): boolean {
    clearTimeout(this.#timer)
    const wasOver = this.#isOver
    this.#isOver = true
    return !wasOver
  }
}

const NO_CALL: UpstreamCall = { abort: () => {}, pause: () => {}, resume: () => {} }

/** Answers from memory, after the present turn: a listener is never called from inside `call`. */
export function answerSoon(around: Around, id: RequestId, listener: AnswerListener): UpstreamCall {
  let isGone = false
  process.nextTick(() => {
    if (!isGone) deliver(around, id, listener, () => isGone)
  })
  return {
    ...NO_CALL,
    abort: () => {
      isGone = true
    },
  }
}

function deliver(
  around: Around,
  id: RequestId,
  listener: AnswerListener,
  isGone: () => boolean,
): void {
  try {
    listener.head(200, HEAD)
    if (!isGone()) listener.data(withId(around, id))
    if (!isGone()) listener.end()
  } catch (error) {
    // One that can't take its answer fails alone.
    listener.error(toAdapterError(error))
  }
}
