/**
 * Tells whether an answer gets on, for a limit on silence. What only shows that a connection lives does not count: comments of an event stream, and a
 * trickle of bytes that would take for ever.
 */

/** So many bytes are progress, whatever they are. */
const ENOUGH_BYTES = 16_384
const LINE_FEED = 0x0a
const RETURN = 0x0d

/** See the file comment. A look at bytes, good enough to hold a timer by. */
export class AnswerProgress {
  readonly #isStream: boolean
  #bytes = 0
  /** Whether a line with data has begun. */
  #hasData = false

  constructor(isStream: boolean) {
    this.#isStream = isStream
  }

  /** Whether this piece, with those before it, brings the answer on: a whole line with data of an event stream, or a good deal of bytes. */
  take(chunk: Uint8Array): boolean {
    this.#bytes += chunk.byteLength
    if (this.#bytes < ENOUGH_BYTES && !(this.#isStream && this.#endsData(chunk))) return false
    this.#bytes = 0
    this.#hasData = false
    return true
  }

  #endsData(chunk: Uint8Array): boolean {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    this.#hasData ||= bytes.includes('data')
    return this.#hasData && (bytes.includes(LINE_FEED) || bytes.includes(RETURN))
  }
}
