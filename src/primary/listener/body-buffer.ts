/** Collects pieces of a body in one growing buffer: what it holds is bounded by bytes, however small the pieces are. */
const FIRST_BYTES = 16_384

/** See the file comment. Copies what it is given. */
export class BodyBuffer {
  readonly #mostBytes: number
  #bytes = new Uint8Array(0)
  #length = 0

  /** `mostBytes`: how many will come at the most, where that is known. Room is made as they come, not as they are announced. */
  constructor(mostBytes: number = Number.POSITIVE_INFINITY) {
    this.#mostBytes = mostBytes
  }

  get length(): number {
    return this.#length
  }

  append(piece: Uint8Array): void {
    const needed = this.#length + piece.byteLength
    if (needed > this.#bytes.byteLength) {
      const roomy = Math.max(FIRST_BYTES, this.#bytes.byteLength * 2)
      const grown = new Uint8Array(Math.max(needed, Math.min(roomy, this.#mostBytes)))
      grown.set(this.#bytes.subarray(0, this.#length))
      this.#bytes = grown
    }
    this.#bytes.set(piece, this.#length)
    this.#length = needed
  }

  /** What was collected, in a buffer of exactly its size that belongs to the caller; starts anew. */
  take(): Uint8Array {
    const whole =
      this.#length === this.#bytes.byteLength ? this.#bytes : this.#bytes.slice(0, this.#length)
    this.#bytes = new Uint8Array(0)
    this.#length = 0
    return whole
  }
}
