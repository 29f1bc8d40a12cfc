/** An exchange whose client is in this worker: for requests that are made here and go the way of those of clients. */
import type { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { BodyListener, Exchange, RequestHead } from './exchange.ts'

/** See the file comment. Its request is there whole, and what becomes of the answer is up to who extends it. */
export abstract class LocalExchange implements Exchange {
  readonly request: RequestHead
  readonly noteRefusal: ((error: AdapterError) => void) | undefined
  abstract readonly isOpen: boolean
  #abortListener: (() => void) | undefined
  #drainListener: (() => void) | undefined

  constructor(request: RequestHead, noteRefusal?: (error: AdapterError) => void) {
    this.request = request
    this.noteRefusal = noteRefusal
  }

  abstract begin(status: number, headers: HeaderList): void
  abstract write(chunk: Uint8Array): boolean
  abstract end(): void
  abstract reset(): void

  /** After a pause that `write` asked for. */
  resume(): void {
    if (this.isOpen) this.#drainListener?.()
  }

  readBody(listener: BodyListener): void {
    const { body } = this.request
    if (body !== null) listener.data(typeof body === 'string' ? Buffer.from(body) : body)
    listener.end()
  }

  pauseBody(): void {}
  resumeBody(): void {}

  onAbort(listener: () => void): void {
    this.#abortListener = listener
  }

  onDrain(listener: () => void): void {
    this.#drainListener = listener
  }

  respond(status: number, headers: HeaderList, body?: Uint8Array | string): void {
    this.begin(status, headers)
    if (body !== undefined) this.write(typeof body === 'string' ? Buffer.from(body) : body)
    this.end()
  }

  sendFile(): void {
    throw new Error('no file answers a JSON-RPC request')
  }

  /** Whoever answers hears that nobody waits any more. */
  protected tellAborted(): void {
    this.#abortListener?.()
  }
}
