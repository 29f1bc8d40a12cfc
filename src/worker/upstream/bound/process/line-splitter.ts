/** Cuts a byte stream into lines, of bounded length. */

const LF = 0x0a
const CR = 0x0d

/** See the file comment. */
export class LineSplitter {
  readonly #maxBytes: number
  readonly #onLine: (line: Uint8Array, isCut: boolean) => void
  #parts: Uint8Array[] = []
  #bytes = 0
  /** Whether the rest of the present line is left out. */
  #isSkipping = false

  /** `onLine` gets each line without its end; of one that is longer than `maxBytes` the beginning, as soon as that is known. */
  constructor(maxBytes: number, onLine: (line: Uint8Array, isCut: boolean) => void) {
    this.#maxBytes = maxBytes
    this.#onLine = onLine
  }

  push(chunk: Uint8Array): void {
    let start = 0
    for (;;) {
      const end = chunk.indexOf(LF, start)
      this.#add(chunk.subarray(start, end === -1 ? chunk.length : end))
      if (end === -1) return
      this.#endLine()
      start = end + 1
    }
  }

  /** The stream is over: what is left is the last line. */
  end(): void {
    if (this.#bytes > 0) this.#endLine()
  }

  #add(bytes: Uint8Array): void {
    if (this.#isSkipping || bytes.length === 0) return
    const room = this.#maxBytes - this.#bytes
    this.#parts.push(bytes.length > room ? bytes.subarray(0, room) : bytes)
    this.#bytes += bytes.length
    if (bytes.length <= room) return
    this.#isSkipping = true
    this.#onLine(Buffer.concat(this.#parts), true)
  }

  #endLine(): void {
    const line = this.#parts.length === 1 ? this.#parts[0] : Buffer.concat(this.#parts)
    const wasSkipping = this.#isSkipping
    this.#parts = []
    this.#bytes = 0
    this.#isSkipping = false
    if (wasSkipping || line === undefined) return
    this.#onLine(line.at(-1) === CR ? line.subarray(0, -1) : line, false)
  }
}
