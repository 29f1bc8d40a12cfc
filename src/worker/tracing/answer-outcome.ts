/** How a call went, read from what its client is answered. Looks at sampled calls only, at a bounded part of their answers, and changes nothing. */
import type { HeaderList } from '../../shared/frames/frames.ts'
import { headerValue } from '../../shared/frames/header-list.ts'
import { SseSplitter } from '../../shared/sse-splitter.ts'
import { hasMethod, isObject } from '../exchange/json-rpc.ts'
import { isEventStream, isJson } from '../exchange/media-type.ts'
import { messageOf } from '../exchange/sse.ts'

/** Longer answers, or events, are not looked into, in bytes. */
const MAX_BYTES = 65_536
const CODE = /^[A-Za-z0-9_-]{1,64}$/

/** What a span says of a failure. */
export interface Failure {
  /** `error.type`. */
  readonly type: string
  /** `rpc.response.status_code`: the JSON-RPC error code. */
  readonly rpcCode?: string
}

/** See the file comment. */
export class AnswerOutcome {
  status = 0
  #parts: Uint8Array[] = []
  #bytes = 0
  #form: 'json' | 'events' | 'other' = 'other'
  #splitter: SseSplitter | undefined
  #failure: Failure | undefined

  begin(status: number, headers: HeaderList): void {
    this.status = status
    const isPlain = (headerValue(headers, 'content-encoding') ?? 'identity') === 'identity'
    if (!isPlain) return
    this.#form = isEventStream(headers) ? 'events' : isJson(headers) ? 'json' : 'other'
  }

  /** Takes a piece of the body; what is kept of it is copied. */
  data(chunk: Uint8Array): void {
    if (this.#form === 'other') return
    if (this.#form === 'json') {
      this.#bytes += chunk.byteLength
      if (this.#bytes <= MAX_BYTES) this.#parts.push(new Uint8Array(chunk))
      else this.#forget()
      return
    }
    try {
      // A copy, because the splitter keeps parts of it and the piece is given away.
      this.#splitter ??= new SseSplitter(MAX_BYTES)
      for (const event of this.#splitter.push(new Uint8Array(chunk))) this.#look(messageOf(event))
    } catch {
      this.#forget()
    }
  }

  /** How it went; undefined when well, as far as is known. */
  failure(): Failure | undefined {
    if (this.#form === 'json' && this.#bytes > 0) this.#lookAtJson()
    if (this.#failure !== undefined) return this.#failure
    return this.status >= 400 ? { type: String(this.status) } : undefined
  }

  #lookAtJson(): void {
    try {
      const parsed: unknown = JSON.parse(Buffer.concat(this.#parts).toString('utf8'))
      for (const message of Array.isArray(parsed) ? parsed : [parsed]) this.#look(message)
    } catch {
      // Not for us to judge.
    }
  }

  #look(message: unknown): void {
    if (!isObject(message) || hasMethod(message)) return
    const { error, result } = message
    if (isObject(error)) this.#failure ??= failureOf(error)
    else if (isObject(result) && result['isError'] === true)
      this.#failure ??= { type: 'tool_error' }
  }

  #forget(): void {
    this.#form = 'other'
    this.#parts = []
  }
}

/** Our own errors have a name, which says more than their number. */
function failureOf(error: Readonly<Record<string, unknown>>): Failure {
  const { code, data } = error
  const rpcCode = typeof code === 'number' ? String(code) : 'unknown'
  const named = isObject(data) ? data['code'] : undefined
  const isNamed = typeof named === 'string' && named.startsWith('ADAPTER_') && CODE.test(named)
  return { type: isNamed ? named : rpcCode, rpcCode }
}
