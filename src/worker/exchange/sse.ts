/**
 * Server-sent events at byte level (HTML Living Standard §9.2): splits a stream into events without changing a byte, and rewrites the data of single
 * ones. Streams that nobody needs to look into don't pass through here.
 */
import { AdapterError } from '../../shared/errors.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import { isObject, parseEventData } from './json-rpc.ts'

const LF = 0x0a
const CR = 0x0d
const SPACE = 0x20
const COLON = 0x3a
const DATA_FIELD = Buffer.from('data: ')

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

/** The data of an event (its `data` lines joined by line feeds), or undefined when it has none. */
export function eventData(event: Uint8Array): string | undefined {
  const lines = linesOf(event).filter((line) => line.name === 'data')
  return lines.length === 0 ? undefined : lines.map((line) => line.value).join('\n')
}

/** The JSON-RPC message in an event, if there is one. Throws ADAPTER_UPSTREAM_INVALID for one that must not be parsed. */
export function messageOf(event: Uint8Array): JsonObject | undefined {
  const data = eventData(event)
  const value = data === undefined ? undefined : parseEventData(data)
  return isObject(value) ? value : undefined
}

/** Where the data of an event stands, in bytes: the line, and what it holds. */
export interface DataPlace {
  readonly lineStart: number
  readonly start: number
  readonly end: number
}

/** The place of an event's data when it has the plain form that servers send: one data line, line feeds only, nothing before or after its lines. */
export function plainDataPlace(event: Uint8Array): DataPlace | undefined {
  const bytes = Buffer.from(event.buffer, event.byteOffset, event.byteLength)
  const isPlain =
    bytes[0] !== LF && bytes.at(-1) === LF && bytes.at(-2) === LF && !bytes.includes(CR)
  if (!isPlain) return undefined
  const lineStart = startsWith(bytes, 0, 'data') ? 0 : bytes.indexOf('\ndata') + 1
  const colon = lineStart + 4
  if (!startsWith(bytes, lineStart, 'data:') || bytes.includes('\ndata', colon)) return undefined
  const start = bytes[colon + 1] === SPACE ? colon + 2 : colon + 1
  return { lineStart, start, end: bytes.indexOf(LF, colon) }
}

/** The same event with other data, as `withEventData` makes it. */
export function withPlainData(
  event: Uint8Array,
  { lineStart, end }: DataPlace,
  data: Uint8Array,
): Uint8Array {
  return concat([event.subarray(0, lineStart), DATA_FIELD, data, event.subarray(end)])
}

/** Whether an event carries an id, so that a client may ask for what follows it. */
export function hasEventId(event: Uint8Array): boolean {
  const bytes = Buffer.from(event.buffer, event.byteOffset, event.byteLength)
  if (isField(bytes, 0, 'id')) return true
  for (const lineEnd of ['\n', '\r']) {
    let at = bytes.indexOf(`${lineEnd}id`)
    for (; at !== -1; at = bytes.indexOf(`${lineEnd}id`, at + 1)) {
      if (isField(bytes, at + 1, 'id')) return true
    }
  }
  return false
}

/** The id of an event, when it has one that a client keeps: with a NUL in it, it counts for nothing. */
export function eventId(event: Uint8Array): string | undefined {
  return linesOf(event).findLast((line) => line.name === 'id' && !line.value.includes('\0'))?.value
}

/** The same event with other data; every line that is not data stays, in its place. */
export function withEventData(event: Uint8Array, data: string): Uint8Array {
  const lines: string[] = []
  let placed = false
  for (const line of linesOf(event)) {
    if (line.name !== 'data') lines.push(line.raw)
    else if (!placed) {
      placed = true
      lines.push(`data: ${data}`)
    }
  }
  return Buffer.from(`${lines.join('\n')}\n\n`, 'utf8')
}

/** A new event with `data`, without id. */
export function messageEvent(data: string): Uint8Array {
  return Buffer.from(`event: message\ndata: ${data}\n\n`, 'utf8')
}

interface Line {
  readonly raw: string
  readonly name: string
  readonly value: string
}

function linesOf(event: Uint8Array): Line[] {
  const text = Buffer.from(event.buffer, event.byteOffset, event.byteLength).toString('utf8')
  return text
    .split(/\r\n|\n|\r/)
    .filter((raw) => raw !== '')
    .map((raw) => {
      const colon = raw.indexOf(':')
      if (colon === -1) return { raw, name: raw, value: '' }
      const value = raw.slice(colon + 1)
      return {
        raw,
        name: raw.slice(0, colon),
        value: value.startsWith(' ') ? value.slice(1) : value,
      }
    })
}

/** Finds the first line end at or after a place, else the chunk's end; places only grow. Searching is far faster than looking at each byte. */
function lineEnds(chunk: Uint8Array): (from: number) => number {
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

function startsWith(bytes: Buffer, at: number, text: string): boolean {
  return bytes.toString('latin1', at, at + text.length) === text
}

/** Whether a line that starts at `at` is a field of this name. */
function isField(bytes: Buffer, at: number, name: string): boolean {
  const next = bytes[at + name.length]
  const isEnd = next === undefined || next === COLON || next === LF || next === CR
  return isEnd && startsWith(bytes, at, name)
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts))
}
