/** What is in one server-sent event, as `SseSplitter` cuts them (HTML Living Standard §9.2). */

const LF = 0x0a
const CR = 0x0d
const SPACE = 0x20

/** One line of an event. */
export interface EventLine {
  readonly raw: string
  readonly name: string
  readonly value: string
}

/** The data of an event (its `data` lines joined by line feeds), or undefined when it has none. */
export function eventData(event: Uint8Array): string | undefined {
  const lines = linesOf(event).filter((line) => line.name === 'data')
  return lines.length === 0 ? undefined : lines.map((line) => line.value).join('\n')
}

/** The name of an event, which is `message` where it has none. */
export function eventName(event: Uint8Array): string {
  const bytes = Buffer.from(event.buffer, event.byteOffset, event.byteLength)
  // Servers write it first or not at all, and what may be megabytes of data need not become text for it.
  const isFirst = startsWith(bytes, 0, 'event')
  const hasMore = bytes.includes('\nevent') || bytes.includes('\revent')
  if (!isFirst && !hasMore) return 'message'
  const firstEnd = bytes.indexOf(LF)
  const named = hasMore || firstEnd === -1 ? event : event.subarray(0, firstEnd)
  const name = linesOf(named).findLast((line) => line.name === 'event')?.value ?? ''
  return name === '' ? 'message' : name
}

/** The data of an event as bytes of their own; undefined when it has none. */
export function eventDataBytes(event: Uint8Array): Uint8Array | undefined {
  const place = plainDataPlace(event)
  if (place !== undefined) return new Uint8Array(event.subarray(place.start, place.end))
  const data = eventData(event)
  return data === undefined ? undefined : new Uint8Array(Buffer.from(data))
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

/** The lines of an event, without blank ones. */
export function linesOf(event: Uint8Array): EventLine[] {
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

/** Whether bytes hold an ASCII text at a place. */
export function startsWith(bytes: Buffer, at: number, text: string): boolean {
  return bytes.toString('latin1', at, at + text.length) === text
}
