/**
 * Finds lists of tools in JSON that comes in pieces. It follows the brackets only, and knows at the one that ends a message whose answer it was: until
 * then no client can have read it.
 */
import {
  CLOSE_ARRAY,
  CLOSE_OBJECT,
  COLON,
  COMMA,
  countBackslashes,
  OPEN_ARRAY,
  OPEN_OBJECT,
  QUOTE,
} from './json-bytes.ts'
import { idKey } from './json-rpc.ts'

const TAB = 0x09
const LF = 0x0a
const CR = 0x0d
const SPACE = 0x20

/** Bytes that are kept of a key or an id. The keys that count have at most 36, with every character escaped. */
const MAX_TOKEN = 64
/** How many bytes of a string are looked at one by one: most strings are short. */
const SHORT = 24

/** Scans JSON: a message, a batch, or several of them in a row. */
export class JsonListScanner {
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

  /** Whether a list ends in this piece that is no answer to the requests that it was made for. */
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
