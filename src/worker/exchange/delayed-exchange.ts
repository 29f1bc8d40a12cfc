/** An exchange whose answer leaves later: once the first of it is there, something is waited for. Made for short answers: what comes meanwhile is kept. */
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { BodyListener, Exchange, RequestHead } from './exchange.ts'

/** See the file comment. */
export class DelayedExchange implements Exchange {
  readonly request: RequestHead
  readonly noteRefusal: Exchange['noteRefusal']
  readonly #inner: Exchange
  readonly #ready: () => Promise<void>
  #answer: Promise<void> | undefined
  #isOpen = true

  /** `ready` never rejects, and is called once, when there is something to send. */
  constructor(inner: Exchange, ready: () => Promise<void>) {
    this.request = inner.request
    this.noteRefusal = inner.noteRefusal
    this.#inner = inner
    this.#ready = ready
  }

  get isOpen(): boolean {
    return this.#isOpen && this.#inner.isOpen
  }

  readBody(listener: BodyListener): void {
    this.#inner.readBody(listener)
  }

  pauseBody(): void {
    this.#inner.pauseBody()
  }

  resumeBody(): void {
    this.#inner.resumeBody()
  }

  onAbort(listener: () => void): void {
    this.#inner.onAbort(listener)
  }

  onDrain(listener: () => void): void {
    this.#inner.onDrain(listener)
  }

  respond(status: number, headers: HeaderList, body?: Uint8Array | string): void {
    this.#isOpen = false
    this.#later(() => this.#inner.respond(status, headers, body))
  }

  begin(status: number, headers: HeaderList): void {
    this.#later(() => this.#inner.begin(status, headers))
  }

  write(chunk: Uint8Array): boolean {
    const kept = new Uint8Array(chunk)
    this.#later(() => this.#inner.write(kept))
    return true
  }

  end(): void {
    this.#isOpen = false
    this.#later(() => this.#inner.end())
  }

  reset(): void {
    this.#isOpen = false
    this.#inner.reset()
  }

  sendFile(...answer: Parameters<Exchange['sendFile']>): void {
    this.#isOpen = false
    this.#inner.sendFile(...answer)
  }

  #later(send: () => void): void {
    this.#answer = (this.#answer ?? this.#ready()).then(send)
  }
}
