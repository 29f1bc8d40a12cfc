/**
 * Answers that were rewritten before, by the bytes that they came as. Servers repeat long answers byte for byte but for the id of the request: then
 * what was made of the last one is sent again, with this one's id in its place.
 */
import { isAscii } from 'node:buffer'

import type { JsonObject } from '../../shared/state/records.ts'
import {
  BACKSLASH,
  CLOSE_ARRAY,
  CLOSE_OBJECT,
  COLON,
  COMMA,
  endOfString,
  OPEN_ARRAY,
  OPEN_OBJECT,
  QUOTE,
} from './json-bytes.ts'
import type { RequestId } from './json-rpc.ts'

/** Most bytes of all answers together, as received and as rewritten. */
const MAX_BYTES = 4 * 1024 * 1024
/** A list has a few pages. */
const MAX_ANSWERS = 16
/** Longer ids are not looked for, in bytes. */
const MAX_ID_BYTES = 256

/** A message around its id. */
export interface Around {
  readonly before: Uint8Array
  readonly after: Uint8Array
}

interface KnownAnswer {
  readonly received: Around
  /** The same object when nothing was rewritten. */
  readonly rewritten: Around
  readonly memo: unknown
  readonly bytes: number
}

/** An answer that is known, for whoever waits for this id. */
export interface FoundAnswer {
  /** The id as JSON, in its shortest form (`idKey`). */
  readonly idKey: string
  /** What was noted with it. */
  readonly memo: unknown
  /** The rewritten message, in a buffer of its own. */
  rewritten(): Uint8Array
}

/** Holds answers whose rewriting depends on nothing but their bytes; whatever else it depends on must have an object of its own. */
export class KnownAnswers {
  /** The one that was used last comes first. */
  #answers: KnownAnswer[] = []
  #bytes = 0
  readonly #onLook: ((isKnown: boolean) => void) | undefined

  /** `onLook` hears whether what was looked for was known; of what was not, when it is noted. */
  constructor(onLook?: (isKnown: boolean) => void) {
    this.#onLook = onLook
  }

  /** Looks for a message, in its pieces, that differs from a known one in its id alone. The caller must know of a request with that id. */
  find(received: readonly Uint8Array[]): FoundAnswer | undefined {
    for (const [index, answer] of this.#answers.entries()) {
      const id = between(received, answer.received)
      if (id === undefined) continue
      if (index > 0) this.#moveToFront(index)
      const { before, after } = answer.rewritten
      this.#onLook?.(true)
      return {
        idKey: textOf(id),
        memo: answer.memo,
        rewritten: () => joined([before, id, after]),
      }
    }
    return undefined
  }

  /**
   * Keeps what an answer was rewritten to, the bytes of both, and what else is to be known of it. `isSame`: nothing was rewritten. Answers that are too
   * long, or whose id can not be told exactly, are not kept.
   */
  note(
    received: Uint8Array,
    rewritten: JsonObject,
    { memo, isSame = false }: { readonly memo?: unknown; readonly isSame?: boolean } = {},
  ): void {
    this.#onLook?.(false)
    const id = JSON.stringify(rewritten['id'])
    const from = around(received, id)
    const to = from && (isSame ? from : around(Buffer.from(JSON.stringify(rewritten)), id))
    if (from === undefined || to === undefined) return
    const parts = isSame
      ? [from.before, from.after]
      : [from.before, from.after, to.before, to.after]
    const bytes = lengthOf(parts)
    if (bytes > MAX_BYTES) return
    this.#answers.unshift({ received: from, rewritten: to, memo, bytes })
    this.#bytes += bytes
    while (this.#bytes > MAX_BYTES || this.#answers.length > MAX_ANSWERS) {
      this.#bytes -= this.#answers.pop()?.bytes ?? 0
    }
  }

  #moveToFront(index: number): void {
    this.#answers.unshift(...this.#answers.splice(index, 1))
  }
}

/** What stands in the place of the id; undefined when anything else differs. */
function between(
  message: readonly Uint8Array[],
  { before, after }: Around,
): Uint8Array | undefined {
  const length = lengthOf(message) - before.length - after.length
  if (length < 1 || length > MAX_ID_BYTES) return undefined
  const end = before.length + length
  if (!holds(message, end, after) || !holds(message, 0, before)) return undefined
  const id = sliceOf(message, before.length, end)
  return isAscii(id) ? id : undefined
}

/** Whether the pieces hold `bytes` at `offset`. */
function holds(pieces: readonly Uint8Array[], offset: number, bytes: Uint8Array): boolean {
  let at = offset
  let compared = 0
  for (const piece of pieces) {
    if (at < piece.length) {
      const length = Math.min(piece.length - at, bytes.length - compared)
      const mine = piece.subarray(at, at + length)
      if (Buffer.compare(mine, bytes.subarray(compared, compared + length)) !== 0) return false
      compared += length
    }
    at = Math.max(0, at - piece.length)
  }
  return compared === bytes.length
}

/** A few bytes of the pieces. */
function sliceOf(pieces: readonly Uint8Array[], start: number, end: number): Uint8Array {
  let at = 0
  const parts: Uint8Array[] = []
  for (const piece of pieces) {
    const part = piece.subarray(Math.max(0, start - at), Math.max(0, end - at))
    if (part.length > 0) parts.push(part)
    at += piece.length
  }
  return joined(parts)
}

/** Cuts an answer to the request with this id around it; undefined when that can't be told exactly. */
export function aroundId(message: Uint8Array, id: RequestId): Around | undefined {
  return around(message, JSON.stringify(id))
}

/** Whether a message, in its pieces, is the one that was cut, with this id in its place. */
export function isSameAround(
  message: readonly Uint8Array[],
  known: Around,
  id: RequestId,
): boolean {
  const found = between(message, known)
  return found !== undefined && textOf(found) === JSON.stringify(id)
}

/** The message with this id, in a buffer of its own. */
export function withId({ before, after }: Around, id: RequestId): Uint8Array {
  return joined([before, Buffer.from(JSON.stringify(id)), after])
}

/** Cuts a message (an object in valid JSON) around its id; undefined when the id is there twice, or is not written as `id`. */
function around(message: Uint8Array, id: string): Around | undefined {
  const place = placeOfId(message)
  if (place === undefined || textOf(message.subarray(place.start, place.end)) !== id) {
    return undefined
  }
  return { before: message.subarray(0, place.start), after: message.subarray(place.end) }
}

const SPACE = 0x20

interface Place {
  readonly start: number
  readonly end: number
}

/** Where the value of the one top-level key `id` stands. A key with an escape could be one too, so then there is no answer. */
function placeOfId(message: Uint8Array): Place | undefined {
  const places: Place[] = []
  let depth = 0
  for (let at = 0; at < message.length; at++) {
    const byte = message[at]
    if (byte === QUOTE) {
      const end = endOfString(message, at + 1)
      const place = depth === 1 ? valueOfId(message, at + 1, end) : undefined
      if (place === 'unclear') return undefined
      if (place !== undefined) places.push(place)
      at = end
    } else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) depth++
    else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) depth--
  }
  return places.length === 1 ? places[0] : undefined
}

/** The value after a string, when that is the key `id`. */
function valueOfId(message: Uint8Array, start: number, end: number): Place | 'unclear' | undefined {
  const colon = skipBlanks(message, end + 1)
  if (message[colon] !== COLON) return undefined
  const key = message.subarray(start, end)
  if (key.includes(BACKSLASH)) return 'unclear'
  if (textOf(key) !== 'id') return undefined
  const from = skipBlanks(message, colon + 1)
  return { start: from, end: endOfScalar(message, from) }
}

function skipBlanks(message: Uint8Array, from: number): number {
  let at = from
  while ((message[at] ?? COLON) <= SPACE) at++
  return at
}

/** After a string or a number. */
function endOfScalar(message: Uint8Array, start: number): number {
  if (message[start] === QUOTE) return endOfString(message, start + 1) + 1
  let at = start
  while (at < message.length && !isEndOfNumber(message[at] ?? COMMA)) at++
  return at
}

function isEndOfNumber(byte: number): boolean {
  return byte === COMMA || byte === CLOSE_OBJECT || byte <= SPACE
}

function lengthOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0)
}

/** One buffer of exactly the size, which can be given away. */
function joined(parts: readonly Uint8Array[]): Uint8Array {
  // Not filled with zeros first; and a `Buffer` would be taken for a view of a pool.
  const whole = new Uint8Array(Buffer.allocUnsafeSlow(lengthOf(parts)).buffer)
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
}
