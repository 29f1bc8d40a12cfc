/** Reads what a connection brings: JSON-RPC messages, told apart by what they have, with the bytes that are passed on. */
import { isUtf8 } from 'node:buffer'

import type { JsonObject } from '../../../shared/state/records.ts'
import { hasMethod, isObject, parseEventData } from '../../exchange/json-rpc.ts'

/** One message of an upstream. */
export interface UpstreamMessage {
  readonly kind: 'request' | 'notification' | 'response'
  readonly value: JsonObject
  /** On one line. */
  readonly bytes: Uint8Array
}

const LF = 0x0a
const CR = 0x0d
const SPACE = 0x20

/**
 * The messages in what an upstream wrote: several in a batch (revision 2025-03-26), none when it is no JSON-RPC. Throws ADAPTER_UPSTREAM_INVALID for
 * what must not be parsed.
 */
export function readMessages(bytes: Uint8Array): readonly UpstreamMessage[] {
  if (!isUtf8(bytes)) return []
  const value = parseEventData(
    Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'),
  )
  if (Array.isArray(value)) {
    return value.flatMap((one) =>
      isMessage(one) ? [toMessage(one, Buffer.from(JSON.stringify(one)))] : [],
    )
  }
  return isMessage(value) ? [toMessage(value, onOneLine(bytes))] : []
}

/** The same JSON without line breaks: outside of texts they are blanks, and in texts there are none. */
export function onOneLine(json: Uint8Array): Uint8Array {
  if (!json.includes(LF) && !json.includes(CR)) return json
  return json.map((byte) => (byte === LF || byte === CR ? SPACE : byte))
}

function isMessage(value: unknown): value is JsonObject {
  return isObject(value) && value['jsonrpc'] === '2.0'
}

function toMessage(value: JsonObject, bytes: Uint8Array): UpstreamMessage {
  if (!hasMethod(value)) return { kind: 'response', value, bytes }
  return { kind: Object.hasOwn(value, 'id') ? 'request' : 'notification', value, bytes }
}
