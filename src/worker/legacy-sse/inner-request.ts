/** The head of a request that is made for a legacy client: what it sent with its own, in the words of Streamable HTTP. */
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { RequestHead } from '../exchange/exchange.ts'

/** First revision in which requests name theirs. */
const FIRST_WITH_VERSION = '2025-06-18'

/** Of the client's headers: those that describe its own request alone, and those that are written here. */
const NOT_TAKEN_OVER: ReadonlySet<string> = new Set([
  'accept',
  'accept-encoding',
  'content-encoding',
  'content-length',
  'content-type',
  'last-event-id',
  'mcp-session-id',
])

/** What such a request is for. */
export interface InnerPurpose {
  readonly method: 'POST' | 'GET'
  /** Where Streamable HTTP is served. */
  readonly path: string
  readonly body: Uint8Array | string | null
  readonly sessionId: string | undefined
  /** The revision that was agreed on. */
  readonly protocolVersion: string | undefined
  readonly lastEventId?: string | undefined
}

/** Makes the head. `client` is the request that it is made for. */
export function innerRequest(client: RequestHead, purpose: InnerPurpose): RequestHead {
  const { method, path: target, body } = purpose
  return { ...client, route: 'mcp', method, target, body, headers: headersFor(client, purpose) }
}

function headersFor(client: RequestHead, purpose: InnerPurpose): HeaderList {
  const { method, sessionId, protocolVersion, lastEventId } = purpose
  const accept = method === 'GET' ? 'text/event-stream' : 'application/json, text/event-stream'
  const headers = ['accept', accept, 'accept-encoding', 'identity']
  if (method === 'POST') headers.push('content-type', 'application/json')
  let hasVersion = false
  for (let i = 0; i + 1 < client.headers.length; i += 2) {
    const name = client.headers[i] ?? ''
    if (NOT_TAKEN_OVER.has(name)) continue
    hasVersion ||= name === 'mcp-protocol-version'
    headers.push(name, client.headers[i + 1] ?? '')
  }
  const isDue = protocolVersion !== undefined && protocolVersion >= FIRST_WITH_VERSION
  if (isDue && !hasVersion) headers.push('mcp-protocol-version', protocolVersion)
  if (sessionId !== undefined) headers.push('mcp-session-id', sessionId)
  if (lastEventId !== undefined) headers.push('last-event-id', lastEventId)
  return headers
}
