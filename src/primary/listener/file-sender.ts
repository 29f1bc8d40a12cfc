/** Sends part of an open file as a response body: reads ahead by one piece, in constant memory, at the client's pace. */
import { close, read } from 'node:fs'

import type { HttpResponse } from './native.ts'

const PIECE_BYTES = 262_144

/** Streams `length` bytes from `start` of `fd`, closes it, and calls `done` once. The head must have been written; `res` must be abort-guarded. */
export class FileSender {
  readonly #res: HttpResponse
  readonly #fd: number
  readonly #length: number
  readonly #done: (complete: boolean) => void
  readonly #piece: Buffer
  #position: number
  #sent = 0
  #held: Uint8Array | undefined
  #heldOffset = 0
  #ended = false
  #reading = false

  constructor(
    res: HttpResponse,
    file: { fd: number; start: number; length: number },
    done: (complete: boolean) => void,
  ) {
    this.#res = res
    this.#fd = file.fd
    this.#position = file.start
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
    const wanted = Math.min(this.#piece.byteLength, this.#length - this.#sent)
    this.#reading = true
    read(this.#fd, this.#piece, 0, wanted, this.#position, (error, count) => {
      this.#reading = false
      if (this.#ended) {
        close(this.#fd, () => {})
        return
      }
      if (error !== null || count === 0) {
        // The file shrank or failed after its length was announced: only a cut connection tells the client.
        this.#finish(false)
        this.#res.close()
        return
      }
      this.#position += count
      this.#offer(this.#piece.subarray(0, count))
    })
  }

  #offer(bytes: Uint8Array): void {
    const before = this.#res.getWriteOffset()
    let accepted = false
    let complete = false
    this.#res.cork(() => {
      ;[accepted, complete] = this.#res.tryEnd(bytes, this.#length)
    })
    if (complete) {
      this.#finish(true)
    } else if (accepted) {
      this.#sent += bytes.byteLength
      this.#readNext()
    } else {
      this.#held = bytes
      this.#heldOffset = before
    }
  }

  #drained(offset: number): boolean {
    const held = this.#held
    if (held === undefined || this.#ended) return true
    const rest = held.subarray(offset - this.#heldOffset)
    const [accepted, complete] = this.#res.tryEnd(rest, this.#length)
    if (complete) {
      this.#held = undefined
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
    // A read under way still uses the descriptor; its callback closes it.
    if (!this.#reading) close(this.#fd, () => {})
    this.#done(complete)
  }
}
