/** Messages in an event of a stream, one or a batch, each of which may be changed or taken out. */
import { eventData } from '../../shared/sse-event.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import { isObject, parseEventData } from './json-rpc.ts'
import { withEventData } from './sse.ts'

/** Whether an event may hold a request or a notification. Most that don't need no parsing to tell: no such key is in them, nor an escape that may hide it. */
export function mayHoldRequest(event: Uint8Array): boolean {
  const bytes = Buffer.from(event.buffer, event.byteOffset, event.byteLength)
  return bytes.includes('"method"') || bytes.includes(String.raw`\u`)
}

/**
 * The event with each of its messages as `change` answers it, undefined for none of it; undefined when none is left. The same event when nothing
 * changed. Throws ADAPTER_UPSTREAM_INVALID for what must not be parsed.
 */
export function rewriteMessages(
  event: Uint8Array,
  change: (message: JsonObject) => JsonObject | undefined,
): Uint8Array | undefined {
  const data = eventData(event)
  if (data === undefined || data === '') return event
  const value = parseEventData(data)
  const isBatch = Array.isArray(value)
  const messages: readonly unknown[] = isBatch ? value : [value]
  let isSame = true
  const kept: unknown[] = []
  for (const message of messages) {
    const changed = isObject(message) ? change(message) : message
    isSame &&= changed === message
    if (changed !== undefined || !isObject(message)) kept.push(changed)
  }
  if (isSame) return event
  if (kept.length === 0) return undefined
  return withEventData(event, JSON.stringify(isBatch ? kept : kept[0]))
}
