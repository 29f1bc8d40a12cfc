/** An exchange around another, which it passes everything on to: whoever extends it says what is different. */
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { BodyListener, Exchange, RequestHead } from './exchange.ts'

/** See the file comment. */
export abstract class WrappedExchange implements Exchange {
  readonly request: RequestHead
  readonly noteRefusal: Exchange['noteRefusal']
  protected readonly inner: Exchange

  constructor(inner: Exchange, request: RequestHead = inner.request) {
    this.inner = inner
    this.request = request
    this.noteRefusal = inner.noteRefusal
  }

  get isOpen(): boolean {
    return this.inner.isOpen
  }

  readBody(listener: BodyListener): void {
    this.inner.readBody(listener)
  }

  pauseBody(): void {
    this.inner.pauseBody()
  }

  resumeBody(): void {
    this.inner.resumeBody()
  }

  onAbort(listener: () => void): void {
    this.inner.onAbort(listener)
  }

  onDrain(listener: () => void): void {
    this.inner.onDrain(listener)
  }

  respond(status: number, headers: HeaderList, body?: Uint8Array | string): void {
    this.inner.respond(status, headers, body)
  }

  begin(status: number, headers: HeaderList): void {
    this.inner.begin(status, headers)
  }

  write(chunk: Uint8Array): boolean {
    return this.inner.write(chunk)
  }

  end(): void {
    this.inner.end()
  }

  reset(): void {
    this.inner.reset()
  }

  sendFile(...answer: Parameters<Exchange['sendFile']>): void {
    this.inner.sendFile(...answer)
  }
}
