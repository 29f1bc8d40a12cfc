/** An exchange whose request goes on under our trace context, and whose answer ends a span. It changes nothing of either. */
import type { HeaderList } from '../../shared/frames/frames.ts'
import { shortId } from '../../shared/redaction.ts'
import type { BodyListener, Exchange, RequestHead } from '../exchange/exchange.ts'
import { headerValue } from '../exchange/exchange.ts'
import { AnswerOutcome } from './answer-outcome.ts'
import type { CallSpan } from './call-span.ts'

/** See the file comment. Without a span (the call is not sampled) it only replaces the request. */
export class TracedExchange implements Exchange {
  readonly request: RequestHead
  readonly noteRefusal: Exchange['noteRefusal']
  readonly #inner: Exchange
  readonly #span: CallSpan | undefined
  readonly #outcome: AnswerOutcome | undefined

  constructor(inner: Exchange, request: RequestHead, span: CallSpan | undefined) {
    this.#inner = inner
    this.request = request
    this.noteRefusal = inner.noteRefusal
    this.#span = span
    if (span === undefined) return
    this.#outcome = new AnswerOutcome()
    // Until somebody else listens.
    inner.onAbort(() => this.#aborted())
  }

  get isOpen(): boolean {
    return this.#inner.isOpen
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
    this.#inner.onAbort(() => {
      this.#aborted()
      listener()
    })
  }

  onDrain(listener: () => void): void {
    this.#inner.onDrain(listener)
  }

  respond(status: number, headers: HeaderList, body?: Uint8Array | string): void {
    this.#begin(status, headers)
    if (body !== undefined) this.#outcome?.data(typeof body === 'string' ? Buffer.from(body) : body)
    this.#inner.respond(status, headers, body)
    this.#end()
  }

  begin(status: number, headers: HeaderList): void {
    this.#begin(status, headers)
    this.#inner.begin(status, headers)
  }

  write(chunk: Uint8Array): boolean {
    // Before it is given away.
    this.#outcome?.data(chunk)
    return this.#inner.write(chunk)
  }

  end(): void {
    this.#inner.end()
    this.#end()
  }

  reset(): void {
    this.#inner.reset()
    this.#span?.end(this.#outcome?.failure() ?? { type: 'answer_cut' })
  }

  sendFile(
    status: number,
    headers: HeaderList,
    file: { fd: number; start: number; length: number; headOnly: boolean },
  ): void {
    this.#inner.sendFile(status, headers, file)
    this.#end()
  }

  #begin(status: number, headers: HeaderList): void {
    if (this.#span === undefined) return
    this.#outcome?.begin(status, headers)
    this.#span.set('http.response.status_code', status)
    const sessionId = headerValue(headers, 'mcp-session-id')
    if (sessionId !== undefined) this.#span.set('mcp.session.id', shortId(sessionId))
  }

  #end(): void {
    this.#span?.end(this.#outcome?.failure())
  }

  /** The client left before its answer was complete. */
  #aborted(): void {
    this.#span?.end(this.#outcome?.failure() ?? { type: 'client_disconnected' })
  }
}
