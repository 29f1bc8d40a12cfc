/** Server-sent events at byte level (HTML Living Standard §9.2): splits a stream into events without changing a byte. */
import { AdapterError } from './errors.ts'

const LF = 0x0a
const CR = 0x0d

/** Cuts a byte stream into event blocks, each with the blank line that ends it. */
export class SseSplitter {
  readonly #maxBytes: number
  #held: Uint8Array[] = []
  #heldBytes = 0
  /** Whether the bytes so far end at the start of a line: a line end comes next means the event is over. */
  #atLineStart = true
  #afterCr = false

  /** Throws `AdapterError` from `push` when one event is larger than `maxBytes`. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** Takes a chunk and answers the events that it completes, in order. */
  push(chunk: Uint8Array): Uint8Array[] {
    const events: Uint8Array[] = []
    const endOfLine = lineEnds(chunk)
    let start = 0
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i]
      if (byte === LF && this.#afterCr) {
        // second half of CR LF: belongs to the line that the CR ended
        this.#afterCr = false
        if (this.#atLineStart && i === start && this.#heldBytes === 0 && events.length > 0) {
          // CR LF ended the event before: give it the LF too
          const last = events.pop()
          if (last !== undefined) events.push(concat([last, chunk.subarray(i, i + 1)]))
          start = i + 1
        }
        continue
      }
      this.#afterCr = byte === CR
      if (byte !== LF && byte !== CR) {
        this.#atLineStart = false
        i = endOfLine(i) - 1
        continue
      }
      if (!this.#atLineStart) {
        this.#atLineStart = true
        continue
      }
      events.push(this.#take(chunk.subarray(start, i + 1)))
      start = i + 1
    }
    if (start < chunk.length) this.#hold(chunk.subarray(start))
    return events
  }

  /** What is left at the end of the stream: an event that was never finished. */
  rest(): Uint8Array {
    return this.#take(new Uint8Array(0))
  }

  #hold(bytes: Uint8Array): void {
    this.#heldBytes += bytes.byteLength
    if (this.#heldBytes > this.#maxBytes) {
      throw new AdapterError(
        'ADAPTER_UPSTREAM_INVALID',
        `the upstream sent an event larger than ${this.#maxBytes} bytes`,
      )
    }
    this.#held.push(new Uint8Array(bytes))
  }

  #take(last: Uint8Array): Uint8Array {
    const event = this.#heldBytes === 0 ? last : concat([...this.#held, last])
    this.#held = []
    this.#heldBytes = 0
    return event
  }
}

/** Finds the first line end at or after a place, else the chunk's end; places only grow. Searching is far faster than looking at each byte. */
export function lineEnds(chunk: Uint8Array): (from: number) => number {
  const next = (byte: number, from: number): number => {
    const at = chunk.indexOf(byte, from)
    return at === -1 ? chunk.length : at
  }
  let lf = -1
  let cr = -1
  return (from) => {
    if (lf < from) lf = next(LF, from)
    if (cr < from) cr = next(CR, from)
    return Math.min(lf, cr)
  }
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts))
}
