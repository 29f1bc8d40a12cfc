/**
 * Trace context inside a message: `params._meta.traceparent` and `tracestate` (MCP reserves both names). A message that came with it goes on with our
 * span in its place: the sixteen characters of the parent's id are replaced, and not another byte.
 */
import { isObject } from '../exchange/json-rpc.ts'
import type { Envelope, Message } from '../exchange/json-rpc.ts'
import {
  formatTraceparent,
  parseTraceparent,
  parseTracestate,
} from '../../shared/telemetry/trace-context.ts'
import type { TraceParent } from '../../shared/telemetry/trace-context.ts'

/** Where a message says that it belongs. */
export interface MetaContext {
  readonly parent: TraceParent
  /** As written. */
  readonly text: string
  readonly traceState: string | undefined
}

/** Reads the context of a message; undefined when it has none, or a malformed one. */
export function metaContext(message: Message): MetaContext | undefined {
  const meta = message.kind === 'response' ? undefined : message.params?.['_meta']
  if (!isObject(meta)) return undefined
  const text = meta['traceparent']
  const parent = parseTraceparent(text)
  if (parent === undefined || typeof text !== 'string') return undefined
  return { parent, text, traceState: parseTracestate(meta['tracestate']) }
}

/** A message, parsed and as bytes. */
export interface Carried {
  readonly envelope: Envelope
  readonly body: Uint8Array | string
}

/**
 * The same message with `next` as its parent; what it was when the place can't be told for sure (the text is there twice, or written with escapes) or
 * has another length than ours. The header has our span all the same.
 */
export function withParent(
  { envelope, body }: Carried,
  { text }: MetaContext,
  next: TraceParent,
): Carried {
  const written = formatTraceparent(next)
  const [message] = envelope.messages
  if (written.length !== text.length || message === undefined || message.kind === 'response')
    return { envelope, body }
  const replaced = replaceOnly(body, text, written)
  if (replaced === undefined) return { envelope, body }
  const { params = {} } = message
  const meta = isObject(params['_meta']) ? params['_meta'] : {}
  const changed = { ...params, _meta: { ...meta, traceparent: written } }
  return {
    envelope: {
      isBatch: envelope.isBatch,
      messages: [{ ...message, params: changed, value: { ...message.value, params: changed } }],
    },
    body: replaced,
  }
}

/** Replaces the one place where the text stands; undefined when there is none, or another. */
function replaceOnly(
  body: Uint8Array | string,
  text: string,
  next: string,
): Uint8Array | string | undefined {
  if (typeof body === 'string') {
    const at = body.indexOf(text)
    if (at === -1 || body.includes(text, at + 1)) return undefined
    return body.slice(0, at) + next + body.slice(at + text.length)
  }
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength)
  const at = bytes.indexOf(text)
  if (at === -1 || bytes.includes(text, at + 1)) return undefined
  // It is ours: nobody else has the body.
  bytes.write(next, at, 'latin1')
  return body
}
