/** An exchange with a client of another replica: its request is what that one handed over, and its answers say that they are from where they should be. */
import type { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { OUTCOME_HEADER } from '../../shared/hop-seal.ts'
import type { HopOutcome } from '../../shared/hop-seal.ts'
import type { BodyListener, Exchange, RequestHead } from '../exchange/exchange.ts'

/** See the file comment. Its body has come whole. */
export class HopExchange implements Exchange {
  readonly request: RequestHead
  readonly noteRefusal: ((error: AdapterError) => void) | undefined
  readonly #carrier: Exchange

  /** `onRefusal`: what it is answered with here is not told apart where it came from, and so is counted here. */
  constructor(
    carrier: Exchange,
    request: RequestHead,
    onRefusal?: (request: RequestHead, error: AdapterError) => void,
  ) {
    this.#carrier = carrier
    this.request = request
    this.noteRefusal = onRefusal && ((error) => onRefusal(request, error))
  }

  get isOpen(): boolean {
    return this.#carrier.isOpen
  }

  readBody(listener: BodyListener): void {
    const { body } = this.request
    if (body !== null) listener.data(typeof body === 'string' ? Buffer.from(body) : body)
    listener.end()
  }

  pauseBody(): void {}
  resumeBody(): void {}

  onAbort(listener: () => void): void {
    this.#carrier.onAbort(listener)
  }

  respond(status: number, headers: HeaderList, body?: Uint8Array | string): void {
    this.#carrier.respond(status, withOutcome(headers), body)
  }

  begin(status: number, headers: HeaderList): void {
    this.#carrier.begin(status, withOutcome(headers))
  }

  write(chunk: Uint8Array): boolean {
    return this.#carrier.write(chunk)
  }

  onDrain(listener: () => void): void {
    this.#carrier.onDrain(listener)
  }

  end(): void {
    this.#carrier.end()
  }

  reset(): void {
    this.#carrier.reset()
  }

  sendFile(): void {
    throw new Error('files are never sent between replicas: all of them see the same root')
  }
}

function withOutcome(headers: HeaderList): HeaderList {
  return [...headers, OUTCOME_HEADER, 'answer' satisfies HopOutcome]
}
