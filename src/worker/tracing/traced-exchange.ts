/** An exchange whose request goes on under our trace context, and whose answer ends a span. It changes nothing of either. */
import type { HeaderList } from '../../shared/frames/frames.ts'
import { headerValue } from '../../shared/frames/header-list.ts'
import { shortId } from '../../shared/redaction.ts'
import type { Exchange, RequestHead } from '../exchange/exchange.ts'
import { WrappedExchange } from '../exchange/wrapped-exchange.ts'
import { AnswerOutcome } from './answer-outcome.ts'
import type { CallSpan } from './call-span.ts'

/** See the file comment. Without a span (the call is not sampled) it only replaces the request. */
export class TracedExchange extends WrappedExchange {
  readonly #span: CallSpan | undefined
  readonly #outcome: AnswerOutcome | undefined

  constructor(inner: Exchange, request: RequestHead, span: CallSpan | undefined) {
    super(inner, request)
    this.#span = span
    if (span === undefined) return
    this.#outcome = new AnswerOutcome()
    // Until somebody else listens.
    inner.onAbort(() => this.#aborted())
  }

  override onAbort(listener: () => void): void {
    this.inner.onAbort(() => {
      this.#aborted()
      listener()
    })
  }

  override respond(status: number, headers: HeaderList, body?: Uint8Array | string): void {
    this.#begin(status, headers)
    if (body !== undefined) this.#outcome?.data(typeof body === 'string' ? Buffer.from(body) : body)
    this.inner.respond(status, headers, body)
    this.#end()
  }

  override begin(status: number, headers: HeaderList): void {
    this.#begin(status, headers)
    this.inner.begin(status, headers)
  }

  override write(chunk: Uint8Array): boolean {
    // Before it is given away.
    this.#outcome?.data(chunk)
    return this.inner.write(chunk)
  }

  override end(): void {
    this.inner.end()
    this.#end()
  }

  override reset(): void {
    this.inner.reset()
    this.#span?.end(this.#outcome?.failure() ?? { type: 'answer_cut' })
  }

  override sendFile(
    status: number,
    headers: HeaderList,
    file: { fd: number; start: number; length: number; headOnly: boolean },
  ): void {
    this.inner.sendFile(status, headers, file)
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
