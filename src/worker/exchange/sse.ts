/** Server-sent events that carry JSON-RPC: reads their messages, and rewrites the data of single ones. Streams that nobody needs to look into don't pass through here. */
import { eventData, linesOf, startsWith } from '../../shared/sse-event.ts'
import type { DataPlace } from '../../shared/sse-event.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import { isObject, parseEventData } from './json-rpc.ts'

const LF = 0x0a
const CR = 0x0d
const COLON = 0x3a
const DATA_FIELD = Buffer.from('data: ')
/** In UTF-8. */
// oxlint-disable-next-line no-control-regex -- they end lines to some
const OTHER_LINE_END = /(?:[\v\f\x1c-\x1e]|\xc2\x85|\xe2\x80[\xa8\xa9])$/

/** The JSON-RPC message in an event, if there is one. Throws ADAPTER_UPSTREAM_INVALID for one that must not be parsed. */
export function messageOf(event: Uint8Array): JsonObject | undefined {
  const data = eventData(event)
  const value = data === undefined ? undefined : parseEventData(data)
  return isObject(value) ? value : undefined
}

/** The same event with other data, as `withEventData` makes it. */
export function withPlainData(
  event: Uint8Array,
  { lineStart, end }: DataPlace,
  data: Uint8Array,
): Uint8Array {
  return concat([event.subarray(0, lineStart), DATA_FIELD, data, event.subarray(end)])
}

/**
 * Whether there is data right after what some readers take for the end of a line, where the rule knows none: they would read a message that we don't.
 * Python's `splitlines` is what they use.
 */
export function hidesData(events: Uint8Array): boolean {
  const bytes = Buffer.from(events.buffer, events.byteOffset, events.byteLength)
  let at = bytes.indexOf('data', 1)
  for (; at !== -1; at = bytes.indexOf('data', at + 4)) {
    const before = bytes[at - 1] ?? 0
    // Most are right after a line feed, or a word of a text.
    if (before === LF || before === CR || (before > 0x1e && before < 0x80)) continue
    if (OTHER_LINE_END.test(bytes.toString('latin1', Math.max(0, at - 3), at))) return true
  }
  return false
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

/** Whether a line that starts at `at` is a field of this name. */
function isField(bytes: Buffer, at: number, name: string): boolean {
  const next = bytes[at + name.length]
  const isEnd = next === undefined || next === COLON || next === LF || next === CR
  return isEnd && startsWith(bytes, at, name)
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts))
}
