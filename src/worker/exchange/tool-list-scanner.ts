/** Finds lists of tools in answers that are relayed as they come, without holding a byte back: in JSON, or in the data of an event stream. */
import { EventListScanner } from './event-list-scanner.ts'
import { JsonListScanner } from './json-list-scanner.ts'

const LF = 0x0a
const CR = 0x0d
const NOTHING = Buffer.alloc(0)

/** Up to so many bytes of a message are searched for the word first, which costs less than to scan them. */
const MAX_UNSCANNED = 4_096

/** In capitals or not, and what may hide it. Without it there is no list. */
const MAY_HOLD_TOOLS = /tool|\\u/i

/** Takes an answer piece by piece. */
export interface ToolListScanner {
  /** Whether a list of tools ends in this piece that is no answer to the requests that it was made for. */
  push(chunk: Uint8Array): boolean
}

/** Whether bytes may hold a list of tools; most that don't need no scanning to tell. */
export function mayHoldTools(bytes: Uint8Array): boolean {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
  return MAY_HOLD_TOOLS.test(text)
}

/** Scans only what holds the word, or grows large. */
class LazyListScanner implements ToolListScanner {
  readonly #answered: () => ReadonlySet<string>
  readonly #isStream: boolean
  #scanner: ToolListScanner | undefined
  #unscanned: Uint8Array = NOTHING
  /** Whether the scanner is in the middle of something. */
  #isScanning = false

  constructor(answered: () => ReadonlySet<string>, isStream: boolean) {
    this.#answered = answered
    this.#isStream = isStream
  }

  push(chunk: Uint8Array): boolean {
    if (!this.#isScanning && this.#unscanned.length + chunk.length <= MAX_UNSCANNED) {
      const isFirst = this.#unscanned.length === 0
      const all = isFirst ? chunk : Buffer.concat([this.#unscanned, chunk])
      if (!mayHoldTools(all)) {
        const isOver = this.#isStream && endsEvent(chunk)
        // A copy, because the bytes are given away.
        this.#unscanned = isOver ? NOTHING : isFirst ? Buffer.from(chunk) : all
        return false
      }
    }
    const scanner = (this.#scanner ??= this.#isStream
      ? new EventListScanner(this.#answered())
      : new JsonListScanner(this.#answered()))
    const before = this.#unscanned
    this.#unscanned = NOTHING
    if (before.length > 0 && scanner.push(before)) return true
    if (scanner.push(chunk)) return true
    this.#isScanning = !this.#isStream || !endsEvent(chunk)
    return false
  }
}

/** A scanner for an answer; see `JsonListScanner`. */
export function toolListScanner(
  answered: () => ReadonlySet<string>,
  isStream: boolean,
): ToolListScanner {
  return new LazyListScanner(answered, isStream)
}

/** Whether a piece ends with an event, as most servers write them. */
function endsEvent(chunk: Uint8Array): boolean {
  const { length } = chunk
  return (
    chunk[length - 1] === LF &&
    (chunk[length - 2] === LF ||
      (chunk[length - 2] === CR && chunk[length - 3] === LF && chunk[length - 4] === CR))
  )
}
