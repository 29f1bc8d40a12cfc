/** What is written to the stream of a legacy client (2024-11-05, basic/transports). */

/** Head of the stream. */
export const STREAM_HEADERS = [
  'content-type',
  'text/event-stream',
  'cache-control',
  'no-cache, no-transform',
  'x-accel-buffering',
  'no',
] as const

/** A comment, which clients skip. */
export const KEEP_ALIVE = new Uint8Array(Buffer.from(':\n\n'))

const MESSAGE_START = Buffer.from('event: message\ndata: ')
const NEXT_LINE = Buffer.from('\ndata: ')
const EVENT_END = Buffer.from('\n\n')
const LF = 0x0a
const CR = 0x0d

/** The first event: where the client's messages go. */
export function endpointEvent(uri: string): Uint8Array {
  return new Uint8Array(Buffer.from(`event: endpoint\ndata: ${uri}\n\n`))
}

/** An event with one message, as it is. Line breaks between its values, of whatever kind, come out as line feeds. */
export function messageEvent(data: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [MESSAGE_START]
  let start = 0
  if (data.includes(LF) || data.includes(CR)) {
    for (let at = 0; at < data.length; at++) {
      if (data[at] !== LF && data[at] !== CR) continue
      parts.push(data.subarray(start, at), NEXT_LINE)
      if (data[at] === CR && data[at + 1] === LF) at++
      start = at + 1
    }
  }
  parts.push(data.subarray(start), EVENT_END)
  return new Uint8Array(Buffer.concat(parts))
}
