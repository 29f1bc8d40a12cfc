/** The head of one answer: status line and headers, one line at a time, and how they say that the body is framed. */
import { COLON, isDigit, isText, SPACE, TAB, TOKEN_LOWER } from './characters.ts'
import type { FramingHeader, HeaderName, HeaderNames } from './header-names.ts'
import { invalidAnswer } from './http1-errors.ts'

const MAX_HEADERS = 256

/** `HTTP/1.`, which every status line begins with. */
const VERSION_PREFIX = Buffer.from('HTTP/1.', 'latin1')
const STATUS_AT = 9
/** More digits than this are no size of anything, and would not fit a number exactly. */
const MAX_LENGTH_DIGITS = 15

/** How the end of a body is found. */
export type Framing =
  | { readonly kind: 'none' }
  | { readonly kind: 'length'; readonly bytes: number }
  | { readonly kind: 'chunked' }
  | { readonly kind: 'close' }

const NO_BODY: Framing = { kind: 'none' }
const CHUNKED: Framing = { kind: 'chunked' }
const UNTIL_CLOSE: Framing = { kind: 'close' }

/** See the file comment. Methods throw ADAPTER_UPSTREAM_INVALID for anything that is not exactly right. */
export class AnswerHead {
  status = 0
  /** Kept headers; a new list for each answer, as it is handed out. */
  headers: string[] = []
  /** Seconds that the server says it keeps an idle connection. */
  keepAliveSeconds: number | undefined
  readonly #names: HeaderNames
  #minor = 1
  #count = 0
  #contentLength = -1
  #isChunked = false
  #hasType = false
  #closes = false

  constructor(names: HeaderNames) {
    this.#names = names
  }

  reset(): void {
    this.status = 0
    if (this.headers.length > 0) this.headers = []
    this.keepAliveSeconds = undefined
    this.#count = 0
    this.#contentLength = -1
    this.#isChunked = false
    this.#hasType = false
    this.#closes = false
  }

  /** Whether the connection can carry another request after the body. */
  canReuse(framing: Framing): boolean {
    if (this.#closes || this.#minor === 0 || framing.kind === 'close') return false
    // An answer that can't have a body but announces one: what follows is anybody's guess.
    return (
      framing.kind !== 'none' ||
      !(this.#isChunked || this.#contentLength > 0) ||
      this.status === 304
    )
  }

  /** Takes `HTTP/1.1 200 OK`; the reason may be missing. */
  statusLine(bytes: Buffer, start: number, end: number): void {
    const minor = (bytes[start + 7] ?? 0) - 48
    const status = number3(bytes, start + STATUS_AT)
    if (
      end - start < STATUS_AT + 3 ||
      !beginsLikeStatusLine(bytes, start, end) ||
      (minor !== 0 && minor !== 1) ||
      bytes[start + 8] !== SPACE ||
      status < 100
    )
      throw invalidAnswer('the status line is malformed')
    const reasonAt = start + STATUS_AT + 3
    if (reasonAt < end && bytes[reasonAt] !== SPACE)
      throw invalidAnswer('the status line is malformed')
    for (let i = reasonAt; i < end; i++) {
      if (!isText(bytes[i] ?? 0)) throw invalidAnswer('the status line is malformed')
    }
    this.#minor = minor
    this.status = status
  }

  /** Takes a header line of the head. */
  headerLine(bytes: Buffer, start: number, end: number): void {
    const { name, valueStart, valueEnd } = this.#parse(bytes, start, end)
    if (name.framing !== undefined)
      this.#frame(name.framing, bytes.toString('latin1', valueStart, valueEnd))
    if (!name.isKept) return
    if (name.text === 'content-type') {
      // Two readers could take two of them for different things.
      if (this.#hasType) throw invalidAnswer('the content type is given twice')
      this.#hasType = true
    }
    this.headers.push(name.text, bytes.toString('utf8', valueStart, valueEnd))
  }

  /** Takes a header line after the last chunk: checked, counted with the others, dropped. */
  trailerLine(bytes: Buffer, start: number, end: number): void {
    this.#parse(bytes, start, end)
  }

  /** How the body is framed (RFC 9112 §6.3), at the end of the head. */
  framing(): Framing {
    if (this.#isChunked && (this.#contentLength >= 0 || this.#minor === 0))
      throw invalidAnswer('the length of the body is contradictory')
    const { status } = this
    if (status === 204 || status === 205 || status === 304) return NO_BODY
    if (this.#isChunked) return CHUNKED
    if (this.#contentLength === 0) return NO_BODY
    if (this.#contentLength > 0) return { kind: 'length', bytes: this.#contentLength }
    return UNTIL_CLOSE
  }

  #parse(
    bytes: Buffer,
    start: number,
    end: number,
  ): { name: HeaderName; valueStart: number; valueEnd: number } {
    if (++this.#count > MAX_HEADERS) throw invalidAnswer('too many headers')
    let colon = start
    let hash = 0
    // Also refuses a folded line, which begins with white space, and white space before the colon.
    for (; colon < end && bytes[colon] !== COLON; colon++) {
      const lower = TOKEN_LOWER[bytes[colon] ?? 0] ?? 0
      if (lower === 0) throw invalidAnswer('a header name is malformed')
      hash = (Math.imul(hash, 31) + lower) | 0
    }
    if (colon === start || colon === end) throw invalidAnswer('a header name is malformed')
    let valueStart = colon + 1
    let valueEnd = end
    while (valueStart < valueEnd && isBlank(bytes[valueStart])) valueStart++
    while (valueEnd > valueStart && isBlank(bytes[valueEnd - 1])) valueEnd--
    for (let i = valueStart; i < valueEnd; i++) {
      if (!isText(bytes[i] ?? 0)) throw invalidAnswer('a header value is malformed')
    }
    return { name: this.#names.find(bytes, start, colon, hash), valueStart, valueEnd }
  }

  #frame(name: FramingHeader, value: string): void {
    switch (name) {
      case 'content-length':
        this.#setContentLength(value)
        return
      case 'transfer-encoding':
        // Any other coding, or chunked twice, we could only guess the end of.
        if (this.#isChunked || value.toLowerCase() !== 'chunked')
          throw invalidAnswer('the transfer coding is not supported')
        this.#isChunked = true
        return
      case 'connection':
        if (/(?:^|,)[ \t]*close[ \t]*(?:,|$)/i.test(value)) this.#closes = true
        return
      case 'keep-alive': {
        const seconds = /(?:^|[,; \t])timeout=(\d{1,9})(?:$|[,; \t])/i.exec(value)?.[1]
        if (seconds !== undefined) this.keepAliveSeconds = Number(seconds)
      }
    }
  }

  #setContentLength(value: string): void {
    const isNumber = /^\d+$/.test(value) && value.length <= MAX_LENGTH_DIGITS
    const length = isNumber ? Number(value) : -1
    if (length < 0 || (this.#contentLength >= 0 && this.#contentLength !== length))
      throw invalidAnswer('the content length is malformed')
    this.#contentLength = length
  }
}

/** Whether bytes are, or may become, a status line: what else a port may speak is found out by its first bytes. */
export function beginsLikeStatusLine(bytes: Buffer, start: number, end: number): boolean {
  const length = Math.min(VERSION_PREFIX.length, end - start)
  for (let i = 0; i < length; i++) {
    if (bytes[start + i] !== VERSION_PREFIX[i]) return false
  }
  return true
}

/** Three digits at `at`, or 0. */
function number3(bytes: Buffer, at: number): number {
  let number = 0
  for (let i = at; i < at + 3; i++) {
    const byte = bytes[i] ?? 0
    if (!isDigit(byte)) return 0
    number = number * 10 + byte - 48
  }
  return number
}

function isBlank(byte: number | undefined): boolean {
  return byte === SPACE || byte === TAB
}
