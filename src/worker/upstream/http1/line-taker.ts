/** Takes lines that end in CR LF out of pieces of bytes; what is left of an unfinished line is kept for the next piece. */
import { CR, LF } from './characters.ts'
import { invalidAnswer } from './http1-errors.ts'

const FIRST_HELD_BYTES = 256
/** What is kept for the next answer: long lines are rare. */
const MAX_KEPT_BYTES = 4_096

const EMPTY: Buffer = Buffer.alloc(0)

/** See the file comment. After `take` found a line, `bytes`, `start` and `end` say where it is, without its end. */
export class LineTaker {
  bytes: Buffer = EMPTY
  start = 0
  end = 0
  #held: Buffer = EMPTY
  #heldBytes = 0

  /** What has come of an unfinished line. */
  get unfinished(): Buffer {
    return this.#held.subarray(0, this.#heldBytes)
  }

  reset(): void {
    this.#heldBytes = 0
    if (this.#held.length > MAX_KEPT_BYTES) this.#held = EMPTY
  }

  /**
   * Looks for the end of a line in `bytes` from `at` up to `limit`; answers the position after it, or -1 when it is not there yet. Throws
   * ADAPTER_UPSTREAM_INVALID when the line with its end is longer than `maxBytes`, or ends in a bare LF.
   */
  take(bytes: Buffer, at: number, limit: number, maxBytes: number): number {
    let lf = at
    while (lf < limit && bytes[lf] !== LF) lf++
    if (this.#heldBytes + lf - at >= maxBytes) throw invalidAnswer('a line is too long')
    if (lf === limit) {
      this.#hold(bytes, at, limit)
      return -1
    }
    if (this.#heldBytes === 0) {
      this.bytes = bytes
      this.start = at
      this.end = lf - 1
    } else {
      this.#hold(bytes, at, lf)
      this.bytes = this.#held
      this.start = 0
      this.end = this.#heldBytes - 1
      this.#heldBytes = 0
    }
    if (this.end < this.start || this.bytes[this.end] !== CR)
      throw invalidAnswer('a line ends in a bare LF')
    return lf + 1
  }

  /** Doubles when it is full: a line that drips in is not copied once per byte. */
  #hold(bytes: Buffer, from: number, to: number): void {
    const needed = this.#heldBytes + to - from
    if (needed > this.#held.length) {
      const larger = Buffer.allocUnsafe(Math.max(FIRST_HELD_BYTES, this.#held.length * 2, needed))
      this.#held.copy(larger, 0, 0, this.#heldBytes)
      this.#held = larger
    }
    bytes.copy(this.#held, this.#heldBytes, from, to)
    this.#heldBytes = needed
  }
}
