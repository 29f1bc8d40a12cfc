/** An exchange whose answer leaves later: once the first of it is there, something is waited for. Made for short answers: what comes meanwhile is kept. */
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { Exchange } from './exchange.ts'
import { WrappedExchange } from './wrapped-exchange.ts'

/** See the file comment. */
export class DelayedExchange extends WrappedExchange {
  readonly #ready: () => Promise<void>
  #answer: Promise<void> | undefined
  #isOpen = true

  /** `ready` never rejects, and is called once, when there is something to send. */
  constructor(inner: Exchange, ready: () => Promise<void>) {
    super(inner)
    this.#ready = ready
  }

  override get isOpen(): boolean {
    return this.#isOpen && super.isOpen
  }

  override respond(status: number, headers: HeaderList, body?: Uint8Array | string): void {
    this.#isOpen = false
    this.#later(() => this.inner.respond(status, headers, body))
  }

  override begin(status: number, headers: HeaderList): void {
    this.#later(() => this.inner.begin(status, headers))
  }

  override write(chunk: Uint8Array): boolean {
    const kept = new Uint8Array(chunk)
    this.#later(() => this.inner.write(kept))
    return true
  }

  override end(): void {
    this.#isOpen = false
    this.#later(() => this.inner.end())
  }

  override reset(): void {
    this.#isOpen = false
    this.inner.reset()
  }

  override sendFile(...answer: Parameters<Exchange['sendFile']>): void {
    this.#isOpen = false
    this.inner.sendFile(...answer)
  }

  #later(send: () => void): void {
    this.#answer = (this.#answer ?? this.#ready()).then(send)
  }
}
