/** Sends part of an open file as a response body: reads ahead by one piece, in constant memory, at the client's pace. */
import { close, read } from 'node:fs'

import { takeLargePiece } from './large-pieces.ts'
import type { LargePiece } from './large-pieces.ts'
import type { HttpResponse } from './native.ts'

const PIECE_BYTES = 262_144

/** A client whose connection took so many pieces in a row, each at once, gets large ones until it falls behind. */
const BRISK_PIECES = 8

/** Streams `length` bytes from `start` of `fd`, closes it, and calls `done` once. The head must have been written; `res` must be abort-guarded. */
export class FileSender {
  readonly #res: HttpResponse
  readonly #fd: number
  readonly #start: number
  readonly #length: number
  readonly #done: (complete: boolean) => void
  readonly #piece: Buffer
  #sent = 0
  #takenAtOnce = 0
  /** What the connection does not take yet; begins at `#sent`, and always lies in `#piece`. */
  #held: Uint8Array | undefined
  #ended = false
  #reading = false

  constructor(
    res: HttpResponse,
    file: { fd: number; start: number; length: number },
    done: (complete: boolean) => void,
  ) {
    this.#res = res
    this.#fd = file.fd
    this.#start = file.start
    this.#length = file.length
    this.#done = done
    this.#piece = Buffer.allocUnsafeSlow(Math.max(1, Math.min(PIECE_BYTES, file.length)))
  }

  start(): void {
    this.#res.onWritable((offset) => this.#drained(offset))
    this.#readNext()
  }

  /** The client went away. */
  abort(): void {
    this.#finish(false)
  }

  #readNext(): void {
    const rest = this.#length - this.#sent
    const isBrisk = this.#takenAtOnce >= BRISK_PIECES && rest > PIECE_BYTES
    const large = isBrisk ? takeLargePiece() : undefined
    const piece = large === undefined ? this.#piece : large.bytes
    const wanted = Math.min(piece.byteLength, rest)
    this.#reading = true
    read(this.#fd, piece, 0, wanted, this.#start + this.#sent, (error, count) => {
      this.#reading = false
      this.#received(error, piece.subarray(0, count), large)
    })
  }

  #received(error: Error | null, bytes: Buffer, large: LargePiece | undefined): void {
    let isTaken = false
    if (this.#ended) {
      close(this.#fd, () => {})
    } else if (error !== null || bytes.byteLength === 0) {
      // The file shrank or failed after its length was announced: only a cut connection tells the client.
      this.#finish(false)
      this.#res.close()
    } else {
      isTaken = this.#offer(bytes)
    }
    large?.giveBack()
    if (isTaken && !this.#ended) this.#readNext()
  }

  /** False when the connection did not take all of it: then it tells when it can take more. */
  #offer(bytes: Buffer): boolean {
    let accepted = false
    let complete = false
    this.#res.cork(() => {
      ;[accepted, complete] = this.#res.tryEnd(bytes, this.#length)
    })
    if (complete) {
      this.#finish(true)
    } else if (accepted) {
      this.#sent += bytes.byteLength
      this.#takenAtOnce++
    } else {
      this.#hold(bytes)
    }
    return accepted
  }

  /** Keeps what the connection did not take; of a large piece as much as fits into the small one, the rest of it is read again. */
  #hold(bytes: Buffer): void {
    const offset = this.#res.getWriteOffset()
    const rest = bytes.subarray(offset - this.#sent)
    this.#sent = offset
    this.#takenAtOnce = 0
    this.#held =
      rest.buffer === this.#piece.buffer ? rest : this.#piece.subarray(0, rest.copy(this.#piece))
  }

  #drained(offset: number): boolean {
    const held = this.#held
    if (held === undefined || this.#ended) return true
    const rest = held.subarray(offset - this.#sent)
    const [accepted, complete] = this.#res.tryEnd(rest, this.#length)
    if (complete) {
      this.#finish(true)
    } else if (accepted) {
      this.#held = undefined
      this.#sent += held.byteLength
      this.#readNext()
    }
    return accepted
  }

  #finish(complete: boolean): void {
    if (this.#ended) return
    this.#ended = true
    this.#held = undefined
    // A read under way still uses the descriptor; its callback closes it.
    if (!this.#reading) close(this.#fd, () => {})
    this.#done(complete)
  }
}
