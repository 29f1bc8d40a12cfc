/** Finds lists of tools in an event stream that comes in pieces: the data of each event is JSON. */
import { lineEnds } from '../../shared/sse-splitter.ts'
import { JsonListScanner } from './json-list-scanner.ts'
import { hidesData } from './sse.ts'

const LF = 0x0a
const CR = 0x0d
const DATA = Buffer.from('data:')
const NOTHING = Buffer.alloc(0)
const BYTE_ORDER_MARK = Buffer.from('\uFEFF')
/** Of a piece, what is looked at again with the next: data that hides may begin in it. */
const SEAM = 6

/** See the file comment. */
export class EventListScanner {
  readonly #json: JsonListScanner
  /** How much of `data:` the line has begun with; -1 when it is another line. */
  #matched = 0
  #isAfterCr = false
  #mark = 0
  #seam = NOTHING

  /** See `JsonListScanner`. */
  constructor(answered: ReadonlySet<string>) {
    this.#json = new JsonListScanner(answered)
  }

  /** As of `JsonListScanner`; true also for data that some readers find and others don't. */
  push(chunk: Uint8Array): boolean {
    const joint = Buffer.concat([this.#seam, chunk.subarray(0, SEAM)])
    if (hidesData(joint) || hidesData(chunk)) return true
    this.#seam = Buffer.from((chunk.length < SEAM ? joint : chunk).subarray(-SEAM))
    const endOfLine = lineEnds(chunk)
    for (let i = this.#skipMark(chunk); i < chunk.length; i++) {
      if (this.#matched === DATA.length || this.#matched === -1) {
        const end = endOfLine(i)
        if (this.#matched !== -1 && this.#json.push(chunk.subarray(i, end))) return true
        i = end
        if (i === chunk.length) break
      }
      this.#takeByte(chunk[i])
    }
    return false
  }

  /** Readers leave out a mark at the beginning of the stream. Answers where the stream goes on after it. */
  #skipMark(chunk: Uint8Array): number {
    let i = 0
    while (i < chunk.length && this.#mark < BYTE_ORDER_MARK.length) {
      if (chunk[i] !== BYTE_ORDER_MARK[this.#mark]) this.#mark = BYTE_ORDER_MARK.length
      else {
        this.#mark++
        i++
      }
    }
    return i
  }

  /** A byte that begins a line, or ends one. */
  #takeByte(byte: number | undefined): void {
    const isEnd = byte === LF || byte === CR
    const isSecond = byte === LF && this.#isAfterCr
    this.#isAfterCr = byte === CR
    if (isSecond) return
    if (!isEnd) {
      this.#matched = byte === DATA[this.#matched] ? this.#matched + 1 : -1
      return
    }
    if (this.#matched === 0) this.#json.reset()
    this.#matched = 0
  }
}
