/**
 * Reads one answer after the other from the bytes of a connection, however they are cut. Strict: what two readers could understand differently is
 * refused, as an answer must never run into the next one.
 */
import type { HeaderList } from '../../../shared/frames/frames.ts'
import { AnswerHead, beginsLikeStatusLine } from './answer-head.ts'
import type { Framing } from './answer-head.ts'
import { CR, isText, LF } from './characters.ts'
import type { HeaderNames } from './header-names.ts'
import { invalidAnswer } from './http1-errors.ts'
import { LineTaker } from './line-taker.ts'

/** Gets the answer while it is read. */
export interface ParsedAnswer {
  head(status: number, headers: HeaderList): void
  /** `chunk` is a view of the read buffer. */
  data(chunk: Buffer): void
}

/** All heads of an answer (interim ones included), and its trailers, in bytes. */
const MAX_HEAD_BYTES = 65_536
/** A chunk's size with its extensions, in bytes. */
const MAX_CHUNK_LINE_BYTES = 1_024
/** What a number holds exactly. */
const MAX_CHUNK_DIGITS = 13

/** What the next byte belongs to. */
type State =
  | 'status'
  | 'headers'
  | 'length'
  | 'close'
  | 'chunk-size'
  | 'chunk'
  | 'chunk-end'
  | 'trailers'
  | 'done'

/** See the file comment. */
export class AnswerParser {
  /** Whether a byte of the answer has come. */
  hasBegun = false
  readonly #head: AnswerHead
  readonly #lines = new LineTaker()
  #answer: ParsedAnswer | undefined
  #state: State = 'done'
  #headBytes = 0
  /** Bytes that are missing of the body or the chunk. */
  #left = 0
  #canReuse = false

  constructor(names: HeaderNames) {
    this.#head = new AnswerHead(names)
  }

  /** Whether the answer is complete. */
  get isDone(): boolean {
    return this.#state === 'done'
  }

  /** Whether the connection can be used again, once the answer is complete. */
  get canReuse(): boolean {
    return this.#canReuse
  }

  /** Seconds that the server says it keeps an idle connection. */
  get keepAliveSeconds(): number | undefined {
    return this.#head.keepAliveSeconds
  }

  /** Makes ready for an answer. */
  begin(answer: ParsedAnswer): void {
    this.#answer = answer
    this.#state = 'status'
    this.#headBytes = 0
    this.#canReuse = false
    this.hasBegun = false
    this.#lines.reset()
    this.#head.reset()
  }

  /** Forgets the answer. */
  clear(): void {
    this.#answer = undefined
    this.#state = 'done'
  }

  /** Takes the first `length` of `bytes` and answers how many belong to the answer: fewer when it ends before. Throws ADAPTER_UPSTREAM_INVALID. */
  push(bytes: Buffer, length: number): number {
    this.hasBegun = true
    let at = 0
    while (at < length && this.#state !== 'done') {
      switch (this.#state) {
        case 'length':
        case 'chunk':
          at = this.#takeBody(bytes, at, Math.min(length, at + this.#left))
          break
        case 'close':
          at = this.#takeBody(bytes, at, length)
          break
        case 'chunk-end':
          at = this.#takeChunkEnd(bytes, at)
          break
        case 'status':
        case 'headers':
        case 'chunk-size':
        case 'trailers':
          at = this.#takeLine(bytes, at, length)
      }
    }
    return at
  }

  /** The server closed its side: answers whether that is the proper end. */
  finish(): boolean {
    if (this.#state === 'close') this.#state = 'done'
    return this.#state === 'done'
  }

  #takeBody(bytes: Buffer, from: number, to: number): number {
    if (this.#state !== 'close') {
      this.#left -= to - from
      if (this.#left === 0) this.#endBodyPart()
    }
    this.#answer?.data(bytes.subarray(from, to))
    return to
  }

  #endBodyPart(): void {
    this.#state = this.#state === 'chunk' ? 'chunk-end' : 'done'
    this.#left = 2
  }

  /** CR LF after a chunk. */
  #takeChunkEnd(bytes: Buffer, at: number): number {
    if (bytes[at] !== (this.#left === 2 ? CR : LF)) throw invalidAnswer('a chunk is malformed')
    if (--this.#left === 0) this.#state = 'chunk-size'
    return at + 1
  }

  #takeLine(bytes: Buffer, at: number, limit: number): number {
    const isChunkSize = this.#state === 'chunk-size'
    const lines = this.#lines
    const next = lines.take(
      bytes,
      at,
      limit,
      isChunkSize ? MAX_CHUNK_LINE_BYTES : MAX_HEAD_BYTES - this.#headBytes,
    )
    if (next === -1) {
      const { unfinished } = lines
      if (this.#state === 'status' && !beginsLikeStatusLine(unfinished, 0, unfinished.length))
        throw invalidAnswer('the status line is malformed')
      return limit
    }
    if (isChunkSize) this.#chunkSize(lines.bytes, lines.start, lines.end)
    else {
      this.#headBytes += lines.end - lines.start + 2
      this.#headLine(lines.bytes, lines.start, lines.end)
    }
    return next
  }

  #headLine(bytes: Buffer, start: number, end: number): void {
    if (this.#state === 'status') {
      this.#head.statusLine(bytes, start, end)
      this.#state = 'headers'
    } else if (this.#state === 'headers') {
      if (start === end) this.#endHead()
      else this.#head.headerLine(bytes, start, end)
    } else if (start === end) this.#state = 'done'
    else this.#head.trailerLine(bytes, start, end)
  }

  #endHead(): void {
    const head = this.#head
    if (head.status < 200) {
      // We never ask for another protocol.
      if (head.status === 101) throw invalidAnswer('it switches protocols')
      head.reset()
      this.#state = 'status'
      return
    }
    const framing = head.framing()
    this.#canReuse = head.canReuse(framing)
    this.#expectBody(framing)
    this.#answer?.head(head.status, head.headers)
  }

  #expectBody(framing: Framing): void {
    switch (framing.kind) {
      case 'none':
        this.#state = 'done'
        return
      case 'length':
        this.#state = 'length'
        this.#left = framing.bytes
        return
      case 'chunked':
        this.#state = 'chunk-size'
        return
      case 'close':
        this.#state = 'close'
    }
  }

  #chunkSize(bytes: Buffer, start: number, end: number): void {
    let size = 0
    let at = start
    for (; at < end; at++) {
      const digit = hexDigit(bytes[at] ?? 0)
      if (digit === -1) break
      size = size * 16 + digit
    }
    if (at === start || at - start > MAX_CHUNK_DIGITS)
      throw invalidAnswer('a chunk size is malformed')
    // Extensions mean nothing to us.
    if (at < end && bytes[at] !== 0x3b) throw invalidAnswer('a chunk size is malformed')
    for (; at < end; at++) {
      if (!isText(bytes[at] ?? 0)) throw invalidAnswer('a chunk size is malformed')
    }
    this.#left = size
    this.#state = size === 0 ? 'trailers' : 'chunk'
  }
}

function hexDigit(byte: number): number {
  if (byte >= 48 && byte <= 57) return byte - 48
  const lower = byte | 0x20
  return lower >= 97 && lower <= 102 ? lower - 87 : -1
}
