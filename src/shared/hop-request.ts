/** A request on the hop, as the body of a POST: what it is about (JSON, behind its length), then the bytes of its own body. */

/** For the connection that the worker has to a server. */
interface UpstreamHop extends CommonHop {
  readonly kind: 'upstream'
  readonly method: 'POST' | 'GET' | 'DELETE'
  readonly isSafe: boolean
  /** As of an `UpstreamRequest`. */
  readonly isFollowUp: boolean
  /** Names it, for what is told of it later. */
  readonly call?: string | undefined
}

/** The answer to a call on the hop was waited for in vain: it is given up, and its upstream was silent for so long. */
interface SilenceHop extends CommonHop {
  readonly kind: 'silence'
  readonly call: string
  /** In milliseconds. */
  readonly waitedMs: number
}

/** A message of a legacy client whose stream the worker holds. */
interface MessageHop extends CommonHop {
  readonly kind: 'messages'
  /** Path and query, as the client sent them. */
  readonly target: string
  /** Who the client is; empty while authentication is off. */
  readonly principal: string
  /** As of a `RequestHead`. */
  readonly correlationId?: string | undefined
}

/** What is asked of the holder. Whoever asks has judged who the client is, and what it may. */
export type HopRequest = UpstreamHop | SilenceHop | MessageHop

interface CommonHop {
  readonly serverId: string
  /** Names and values in turn. */
  readonly headers: readonly string[]
}

/** A request and its own body. */
export interface ReadHopRequest {
  readonly request: HopRequest
  readonly body: Uint8Array | null
}

/** Most that a request adds to its body, in bytes: headers, which a listener takes 64 KiB of, and some room. */
export const MAX_HOP_HEAD_BYTES = 1_048_576

const LENGTH_BYTES = 4

/** The bytes of a request. A string holds ASCII only. */
export function encodeHopRequest(
  request: HopRequest,
  body: Uint8Array | string | null,
): Uint8Array {
  const head = Buffer.from(JSON.stringify({ ...request, hasBody: body !== null }))
  const length = Buffer.alloc(LENGTH_BYTES)
  length.writeUInt32BE(head.byteLength)
  const own = body === null ? [] : [typeof body === 'string' ? Buffer.from(body, 'latin1') : body]
  return Buffer.concat([length, head, ...own])
}

/** The reverse; undefined for anything else. The body is a view. */
export function decodeHopRequest(bytes: Uint8Array): ReadHopRequest | undefined {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (buffer.byteLength < LENGTH_BYTES) return undefined
  const end = LENGTH_BYTES + buffer.readUInt32BE(0)
  if (end > buffer.byteLength) return undefined
  let head: unknown
  try {
    head = JSON.parse(buffer.toString('utf8', LENGTH_BYTES, end))
  } catch {
    return undefined
  }
  if (!isHead(head)) return undefined
  const { hasBody, ...request } = head
  return { request, body: hasBody ? buffer.subarray(end) : null }
}

function isHead(value: unknown): value is HopRequest & { readonly hasBody: boolean } {
  if (typeof value !== 'object' || value === null) return false
  const fields = value as { readonly [name: string]: unknown } // an object has any names
  const { serverId, headers, hasBody } = fields
  return (
    isKnown(fields) &&
    typeof serverId === 'string' &&
    Array.isArray(headers) &&
    headers.length % 2 === 0 &&
    headers.every((text) => typeof text === 'string') &&
    typeof hasBody === 'boolean'
  )
}

/** Whether what a kind has besides is there. A replica of an earlier version leaves out what came later. */
function isKnown(fields: { readonly [name: string]: unknown }): boolean {
  const { kind, method, isSafe, isFollowUp, call, waitedMs, target, principal, correlationId } =
    fields
  switch (kind) {
    case 'upstream':
      return (
        (method === 'POST' || method === 'GET' || method === 'DELETE') &&
        typeof isSafe === 'boolean' &&
        typeof isFollowUp === 'boolean' &&
        isTextOrNone(call)
      )
    case 'silence':
      return typeof call === 'string' && typeof waitedMs === 'number' && waitedMs >= 0
    case 'messages':
      return (
        typeof target === 'string' && typeof principal === 'string' && isTextOrNone(correlationId)
      )
    default:
      return false
  }
}

function isTextOrNone(value: unknown): boolean {
  return value === undefined || typeof value === 'string'
}
