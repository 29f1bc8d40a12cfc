/**
 * Finds lists of tools in answers that are relayed as they come, without holding a byte back: in JSON, or in the data of an event stream. It follows the
 * brackets only, and knows at the one that ends a message whose answer it was: until then no client can have read it.
 */
import { lineEnds } from '../../shared/sse-splitter.ts'
import { idKey } from './json-rpc.ts'
import { hidesData } from './sse.ts'

const TAB = 0x09
const LF = 0x0a
const CR = 0x0d
const SPACE = 0x20
const QUOTE = 0x22
const COMMA = 0x2c
const COLON = 0x3a
const OPEN_ARRAY = 0x5b
const BACKSLASH = 0x5c
const CLOSE_ARRAY = 0x5d
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d

/** Bytes that are kept of a key or an id. The keys that count have at most 36, with every character escaped. */
const MAX_TOKEN = 64

const DATA = Buffer.from('data:')
const NOTHING = Buffer.alloc(0)
const BYTE_ORDER_MARK = Buffer.from('\uFEFF')
/** Of a piece, what is looked at again with the next: data that hides may begin in it. */
const SEAM = 6

/** Up to so many bytes of a message are searched for the word first, which costs less than to scan them. */
const MAX_UNSCANNED = 4_096
/** How many bytes of a string are looked at one by one: most strings are short. */
const SHORT = 24

/** In capitals or not, and what may hide it. Without it there is no list. */
const MAY_HOLD_TOOLS = /tool|\\u/i

/** Takes an answer piece by piece. */
export interface ToolListScanner {
  /** Whether a list of tools ends in this piece that is no answer to the requests that it was made for. */
  push(chunk: Uint8Array): boolean
}

/** Scans JSON: a message, a batch, or several of them in a row. */
class JsonListScanner implements ToolListScanner {
  readonly #answered: ReadonlySet<string>
  readonly #maxToken: number
  #depth = 0
  /** The depth of what is right inside a message: 2 in a batch. */
  #base = 1
  #isInString = false
  /** Whether the first byte of the next piece has a backslash before it. */
  #isEscaped = false
  /** Where keys count: whether one comes next. */
  #awaitsKey = false
  /** Keys, in capitals, of the member of the message that is read, and of that of its result. */
  #member = ''
  #resultMember = ''
  #isInResult = false
  /** The key or id that is read, byte by byte; undefined while none is. */
  #token: string | undefined
  #hasTools = false
  #id: 'none' | 'right' | 'wrong' = 'none'

  /** A list in an answer to one of `answered`, ids as `idKey` writes them, is not found: it is what was asked for, whatever that was. */
  constructor(answered: ReadonlySet<string>) {
    this.#answered = answered
    this.#maxToken = Math.max(MAX_TOKEN, ...[...answered].map((key) => 6 * key.length))
  }

  /** Forgets what was not finished. */
  reset(): void {
    this.#depth = 0
    this.#isInString = false
    this.#isEscaped = false
    this.#token = undefined
  }

  push(chunk: Uint8Array): boolean {
    let i = 0
    if (this.#isInString) i = this.#string(chunk, 0)
    for (; i < chunk.length; i++) {
      const byte = chunk[i] ?? 0
      switch (byte) {
        case QUOTE:
          if (this.#counts) this.#openString()
          this.#isInString = true
          i = this.#string(chunk, i + 1) - 1
          break
        case OPEN_OBJECT:
        case OPEN_ARRAY:
          this.#open(byte === OPEN_OBJECT)
          break
        case CLOSE_OBJECT:
        case CLOSE_ARRAY:
          if (this.#close()) return true
          break
        case COLON:
          this.#awaitsKey = false
          break
        case COMMA:
          if (this.#counts) this.#endMember()
          break
        case SPACE:
        case TAB:
        case LF:
        case CR:
          break
        default:
          if (this.#isInId) this.#take(String.fromCharCode(byte))
      }
    }
    return false
  }

  /** Whether keys are looked at where the scanner is. */
  get #counts(): boolean {
    return this.#depth === this.#base || (this.#isInResult && this.#depth === this.#base + 1)
  }

  get #isInId(): boolean {
    return this.#depth === this.#base && this.#member === 'ID' && !this.#awaitsKey
  }

  #open(isObject: boolean): void {
    if (this.#depth === 0) this.#base = isObject ? 1 : 2
    if (this.#depth === this.#base + 1 && this.#isInResult) {
      this.#hasTools ||= !isObject && this.#resultMember === 'TOOLS'
    }
    this.#depth++
    if (this.#depth === this.#base && isObject) {
      this.#member = ''
      this.#hasTools = false
      this.#id = 'none'
      this.#isInResult = false
    } else if (this.#depth === this.#base + 1) {
      this.#isInResult = isObject && this.#member === 'RESULT'
      this.#resultMember = ''
    }
    if (this.#counts) this.#awaitsKey = isObject
  }

  /** Whether what ends is a list that was found. */
  #close(): boolean {
    if (this.#depth === this.#base) {
      this.#endMember()
      if (this.#hasTools && this.#id !== 'right') return true
      this.#hasTools = false
    }
    if (this.#depth > 0) this.#depth--
    return false
  }

  #endMember(): void {
    if (this.#isInId) this.#endId()
    this.#awaitsKey = true
  }

  #openString(): void {
    if (this.#awaitsKey) this.#token = ''
    else if (this.#isInId) this.#token = '"'
  }

  /** Goes on in a string, and answers where it goes on after it. */
  #string(chunk: Uint8Array, from: number): number {
    const start = this.#isEscaped ? from + 1 : from
    this.#isEscaped = false
    let end = quoteAt(chunk, start)
    while (end !== -1 && countBackslashes(chunk, start, end) % 2 === 1) {
      end = quoteAt(chunk, end + 1)
    }
    const stop = end === -1 ? chunk.length : end
    if (this.#token !== undefined && this.#token.length <= this.#maxToken) {
      const part = chunk.subarray(from, Math.min(stop, from + this.#maxToken + 1))
      this.#token += Buffer.from(part).toString('latin1')
    }
    if (end === -1) {
      this.#isEscaped = start <= stop && countBackslashes(chunk, start, stop) % 2 === 1
      return stop
    }
    this.#isInString = false
    if (this.#token !== undefined) this.#endString()
    return end + 1
  }

  #endString(): void {
    if (!this.#awaitsKey) {
      this.#token += '"'
      return
    }
    const key = parseToken(`"${this.#token}"`, this.#maxToken)
    this.#token = undefined
    // Some clients don't tell capitals from small letters.
    const name = typeof key === 'string' ? key.toUpperCase() : ''
    if (this.#depth === this.#base) this.#member = name
    else this.#resultMember = name
  }

  #take(character: string): void {
    this.#token = (this.#token ?? '') + character
    if (this.#token.length > this.#maxToken + 2) this.#token = '?'.repeat(this.#maxToken + 2)
  }

  /** Of several ids, all have to be right: which one counts is up to the reader. */
  #endId(): void {
    const id = parseToken(this.#token ?? '', this.#maxToken)
    this.#token = undefined
    if (!this.#answered.has(idKey(id))) this.#id = 'wrong'
    else if (this.#id === 'none') this.#id = 'right'
  }
}

/** Scans an event stream: the data of each event is JSON. */
class EventListScanner implements ToolListScanner {
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

function quoteAt(chunk: Uint8Array, from: number): number {
  const near = Math.min(chunk.length, from + SHORT)
  for (let i = from; i < near; i++) if (chunk[i] === QUOTE) return i
  return chunk.indexOf(QUOTE, near)
}

/** What a token says; undefined when that is nothing, or too long. */
function parseToken(token: string, maxLength: number): unknown {
  if (token.length > maxLength + 2) return undefined
  try {
    return JSON.parse(Buffer.from(token, 'latin1').toString('utf8'))
  } catch {
    return undefined
  }
}

/** How many stand right before a place. */
function countBackslashes(chunk: Uint8Array, start: number, end: number): number {
  let count = 0
  while (end - 1 - count >= start && chunk[end - 1 - count] === BACKSLASH) count++
  return count
}
