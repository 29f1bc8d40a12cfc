/**
 * Which headers cross, in both directions: allow-lists. The primary has already kept only what may travel (its `mcpSelection`); here our session id
 * is swapped for the upstream's and the operator's static headers are added.
 */
import type { ServerConfig, UpstreamConfig } from '../../shared/config/config.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'

/** Headers of an upstream's answer that a client gets; `mcp-*` comes on top, except the session id. */
const DOWNSTREAM: ReadonlySet<string> = new Set([
  'content-type',
  'content-encoding',
  'content-language',
  'cache-control',
  'retry-after',
  'allow',
  'x-accel-buffering',
  'last-modified',
  'etag',
  'vary',
  'mcp-session-id', // read and removed by the exchange
])

/** Request headers that say something about the client's connection to us, not about the request. */
const NOT_FORWARDED: ReadonlySet<string> = new Set(['host', 'mcp-session-id', 'content-length'])

/**
 * Request headers for the upstream. Passed-through names go under the operator's spelling and win over static ones of the same name; the upstream's
 * session id is added when there is one.
 */
export function upstreamHeaders(
  received: HeaderList,
  server: ServerConfig,
  upstreamSessionId: string | null,
): string[] {
  const headers: string[] = []
  const present = new Set<string>()
  for (let i = 0; i + 1 < received.length; i += 2) {
    const name = received[i] ?? ''
    if (NOT_FORWARDED.has(name)) continue
    headers.push(name, received[i + 1] ?? '')
    present.add(name)
  }
  for (const [name, value] of Object.entries(server.upstream.staticHeaders)) {
    if (!present.has(name.toLowerCase())) headers.push(name, value)
  }
  if (upstreamSessionId !== null) headers.push('mcp-session-id', upstreamSessionId)
  return headers
}

/** Whether a client's `Authorization` is for the upstream. */
export function passesAuthorization({ clientHeaders }: UpstreamConfig): boolean {
  return clientHeaders.passthrough.some((name) => name.toLowerCase() === 'authorization')
}

/** Keeps what a client may see of an answer's headers. */
export function downstreamHeaders(
  received: Readonly<Record<string, string | string[] | undefined>>,
): string[] {
  const headers: string[] = []
  for (const [name, value] of Object.entries(received)) {
    if (value === undefined || !(DOWNSTREAM.has(name) || name.startsWith('mcp-'))) continue
    for (const one of Array.isArray(value) ? value : [value]) headers.push(name, one)
  }
  return headers
}

/** The list without one header, by lower-case name. */
export function withoutHeader(headers: HeaderList, name: string): string[] {
  const kept: string[] = []
  for (let i = 0; i + 1 < headers.length; i += 2) {
    if (headers[i] !== name) kept.push(headers[i] ?? '', headers[i + 1] ?? '')
  }
  return kept
}
