/** One request under way: waits for a connection, is sent, perhaps a second time, and tells its listener how it went. */
import { AdapterError } from '../../../shared/errors.ts'
import type { HeaderList } from '../../../shared/frames/frames.ts'
import type { AnswerListener, UpstreamCall } from '../upstream.ts'
import type { ParsedAnswer } from './answer-parser.ts'
import { unreachable } from './http1-errors.ts'
import type { EncodedRequest } from './request-encoder.ts'

/** What a call needs of the connection that carries it. */
export interface Carrier {
  /** Cuts the connection; nothing is told to the call. */
  abort(): void
  pause(): void
  resume(): void
}

/** What a call needs of the pool. */
export interface CallOwner {
  /** The call no longer waits for a connection. */
  withdraw(call: Http1Call): void
  /** Sends the call again, on a connection that was not used before. */
  resend(call: Http1Call): void
  /** Sends the call again in a moment. */
  resendSoon(call: Http1Call): void
}

/** See the file comment. */
export class Http1Call implements UpstreamCall, ParsedAnswer {
  readonly request: EncodedRequest
  /** Whether the request may be sent again although the server may have seen it. */
  readonly isSafe: boolean
  isPaused = false
  hasLeft = false
  readonly #listener: AnswerListener
  readonly #owner: CallOwner
  #carrier: Carrier | undefined
  #hasHead = false
  #isOver = false
  #wasResent = false

  constructor(
    request: EncodedRequest,
    isSafe: boolean,
    listener: AnswerListener,
    owner: CallOwner,
  ) {
    this.request = request
    this.isSafe = isSafe
    this.#listener = listener
    this.#owner = owner
  }

  abort(): void {
    if (this.#isOver) return
    this.#isOver = true
    if (this.#carrier === undefined) this.#owner.withdraw(this)
    else this.#carrier.abort()
    this.#carrier = undefined
  }

  pause(): void {
    this.isPaused = true
    this.#carrier?.pause()
  }

  resume(): void {
    this.isPaused = false
    this.#carrier?.resume()
  }

  /** A connection carries the call from now on. */
  carriedBy(carrier: Carrier): void {
    this.#carrier = carrier
  }

  head(status: number, headers: HeaderList): void {
    if (this.#isOver) return
    this.#hasHead = true
    try {
      this.#listener.head(status, headers)
    } catch (error) {
      this.#listenerFailed(error)
    }
  }

  data(chunk: Buffer): void {
    if (this.#isOver) return
    try {
      // The read buffer is shared by all connections: nobody gets a view that somebody else's answer will be written over.
      this.#listener.data(new Uint8Array(chunk))
    } catch (error) {
      this.#listenerFailed(error)
    }
  }

  /** The answer is complete, and the connection is no longer the call's. */
  end(): void {
    this.#carrier = undefined
    if (this.#isOver) return
    this.#isOver = true
    try {
      this.#listener.end()
    } catch (error) {
      this.#tell(listenerError(error))
    }
  }

  /**
   * The connection broke. `mayResend`: the request surely has not been acted on, or it is safe to do twice. `wasMade`: whether there was a connection; where
   * there was none, another try at once would find none either.
   */
  broke(why: string, mayResend: boolean, wasMade: boolean, cause?: Error): void {
    if (this.#isOver) return
    if (mayResend && !this.#wasResent && !this.#hasHead) {
      this.#wasResent = true
      this.#carrier = undefined
      if (wasMade) this.#owner.resend(this)
      else this.#owner.resendSoon(this)
      return
    }
    this.fail(unreachable(why, this.#hasHead, cause))
  }

  fail(error: AdapterError): void {
    this.#carrier = undefined
    if (this.#isOver) return
    this.#isOver = true
    this.#tell(error)
  }

  /** Fails after the present turn: a listener is never called from inside `call`. */
  failSoon(error: AdapterError): void {
    process.nextTick(() => this.fail(error))
  }

  /** A listener that throws fails its own exchange, not the worker. */
  #listenerFailed(cause: unknown): void {
    if (this.#isOver) return
    this.abort()
    this.#tell(listenerError(cause))
  }

  /** The last word. A listener that fails at that too has nothing more to be told, and its connection's other duties go on. */
  #tell(error: AdapterError): void {
    try {
      this.#listener.error(error)
    } catch {
      // See above.
    }
  }
}

/** A listener that refuses an answer says why; anything else that it throws is not shown. */
function listenerError(cause: unknown): AdapterError {
  if (cause instanceof AdapterError) return cause
  return new AdapterError('ADAPTER_INTERNAL', 'the adapter failed while it handled this answer', {
    cause,
  })
}
