/** Collects pieces of a body for frames. No byte is copied twice where a body comes fast, and no buffer is left to the garbage collector. */
import { TRANSFER_BYTES } from '../../shared/frames/channel.ts'

/** Fewer and larger frames cost less; but a buffer that is not full takes the memory of one that is. */
const MOST_BYTES = 262_144

/** So many turns in a row that used less than a quarter of a buffer make the next one smaller. */
const SLOW_TURNS = 16

/** See the file comment. Copies what it is given. */
export class FrameBuffer {
  #bytes: Buffer | undefined
  #length = 0
  /** Of the next buffer: follows the pace of the body, so that a slow one does not take the memory of a fast one. */
  #capacity = TRANSFER_BYTES
  #slowTurns = 0

  get length(): number {
    return this.#length
  }

  /** Whether a piece of so many bytes can be appended; one of any size can be while nothing is collected. */
  hasRoom(bytes: number): boolean {
    return this.#length === 0 || this.#length + bytes <= (this.#bytes?.byteLength ?? 0)
  }

  append(piece: Uint8Array): void {
    if (this.#length === 0 && piece.byteLength > (this.#bytes?.byteLength ?? 0)) {
      this.#bytes = undefined
    }
    this.#bytes ??= Buffer.allocUnsafeSlow(Math.max(this.#capacity, piece.byteLength))
    this.#bytes.set(piece, this.#length)
    this.#length += piece.byteLength
  }

  /**
   * What was collected, as the beginning of a buffer that belongs to the caller: its own size below `TRANSFER_BYTES`, else at most twice that. Starts
   * anew. `isFull`: for lack of room, and not because the turn is over.
   */
  take(isFull: boolean): Uint8Array {
    const bytes = this.#bytes ?? Buffer.alloc(0)
    const length = this.#length
    this.#length = 0
    this.#adapt(isFull, length)
    const isWorthIt = length >= TRANSFER_BYTES && length * 2 >= bytes.byteLength
    if (isWorthIt || bytes.byteLength > this.#capacity) this.#bytes = undefined
    return isWorthIt ? bytes.subarray(0, length) : new Uint8Array(bytes.subarray(0, length))
  }

  #adapt(isFull: boolean, length: number): void {
    if (!isFull && length * 4 <= this.#capacity) this.#slowTurns++
    else this.#slowTurns = 0
    if (isFull) this.#capacity = Math.min(MOST_BYTES, this.#capacity * 2)
    if (this.#slowTurns < SLOW_TURNS) return
    this.#slowTurns = 0
    this.#capacity = Math.max(TRANSFER_BYTES, this.#capacity / 2)
  }
}
