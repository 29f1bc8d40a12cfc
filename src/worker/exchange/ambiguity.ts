/**
 * Refuses messages that two JSON readers may understand differently. The adapter judges a message as parsed here and forwards its bytes: of
 * repeated keys some upstreams take the first, and some find `"Name"` when they look for `"name"`.
 */
import { AdapterError } from '../../shared/errors.ts'
import {
  BACKSLASH,
  CLOSE_ARRAY,
  CLOSE_OBJECT,
  COLON,
  OPEN_ARRAY,
  OPEN_OBJECT,
  QUOTE,
} from './json-bytes.ts'

/** Keys that decide what a message is and which tool it calls. */
const OF_MESSAGE: ReadonlySet<string> = new Set(['jsonrpc', 'id', 'method', 'params'])
const OF_PARAMS: ReadonlySet<string> = new Set(['name', 'arguments'])

/**
 * Looks at the keys of each message and of its `params`, deeper ones being the upstream's business. `body` is known to be valid: JSON in UTF-8 or
 * as a string, one message or an array of them. Throws ADAPTER_INVALID_REQUEST for a key that is repeated or that is a known one in other letters.
 * Methods other than `tools/call` are no exception: the method itself may be what is ambiguous.
 */
export function refuseAmbiguity(body: Uint8Array | string, isBatch: boolean): void {
  const text =
    typeof body === 'string'
      ? body
      : Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8')
  const messageDepth = isBatch ? 2 : 1
  const seenInMessage = new Set<string>()
  const seenInParams = new Set<string>()
  let depth = 0
  let isInParams = false
  let lastKey = ''
  for (let at = 0; at < text.length; at++) {
    const character = text.charCodeAt(at)
    if (character === QUOTE) {
      const end = endOfString(text, at + 1)
      if (depth === messageDepth && isKey(text, end)) {
        lastKey = decode(text.slice(at + 1, end))
        note(lastKey, seenInMessage, OF_MESSAGE)
      } else if (isInParams && depth === messageDepth + 1 && isKey(text, end)) {
        note(decode(text.slice(at + 1, end)), seenInParams, OF_PARAMS)
      }
      at = end
    } else if (character === OPEN_OBJECT || character === OPEN_ARRAY) {
      depth++
      if (depth === messageDepth) {
        seenInMessage.clear()
        seenInParams.clear()
      } else if (depth === messageDepth + 1) isInParams = lastKey === 'params'
    } else if (character === CLOSE_OBJECT || character === CLOSE_ARRAY) depth--
  }
}

/** Takes in one key of an object. */
function note(key: string, seen: Set<string>, known: ReadonlySet<string>): void {
  const isRepeated = seen.has(key)
  if (isRepeated || (!known.has(key) && known.has(fold(key)))) {
    const why = isRepeated ? 'is there twice' : `must be written "${fold(key)}"`
    throw new AdapterError(
      'ADAPTER_INVALID_REQUEST',
      `the message can be understood in two ways: key ${JSON.stringify(key.slice(0, 64))} ${why}`,
    )
  }
  seen.add(key)
}

/** One form for all that readers without regard to case may take for the same: by way of upper case, so that ſ becomes s. */
function fold(key: string): string {
  return key.toUpperCase().toLowerCase()
}

/** Whether the string that ends at `quote` is a key: in valid JSON, only those are followed by a colon. */
function isKey(text: string, quote: number): boolean {
  let at = quote + 1
  while (text.charCodeAt(at) <= 0x20) at++
  return text.charCodeAt(at) === COLON
}

function decode(raw: string): string {
  return raw.includes('\\') ? String(JSON.parse(`"${raw}"`)) : raw
}

function endOfString(text: string, from: number): number {
  let at = text.indexOf('"', from)
  while (at !== -1 && isEscaped(text, at)) at = text.indexOf('"', at + 1)
  return at === -1 ? text.length : at
}

function isEscaped(text: string, quote: number): boolean {
  let backslashes = 0
  while (text.charCodeAt(quote - 1 - backslashes) === BACKSLASH) backslashes++
  return backslashes % 2 === 1
}
