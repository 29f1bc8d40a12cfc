/** Reads a request's headers once: keeps what a worker needs and finds what must be refused. */
import type { HeaderList } from '../../shared/frames/frames.ts'

/** End-to-end headers that always travel to the worker on MCP routes; `mcp-*` comes on top. */
const MCP_HEADERS: ReadonlySet<string> = new Set([
  'accept',
  'content-type',
  'content-encoding',
  'last-event-id',
  'traceparent',
  'tracestate',
  'baggage',
  'host',
])

/** Headers that the file routes read. */
const FILE_HEADERS: ReadonlySet<string> = new Set([
  'accept',
  'content-type',
  'content-length',
  'content-encoding',
  'content-disposition',
  'content-digest',
  'range',
  'if-range',
  'if-none-match',
  'if-modified-since',
  'mcp-session-id',
  'host',
])

/** Headers whose repetition makes a request ambiguous. */
const SINGLE: ReadonlySet<string> = new Set([
  'host',
  'content-length',
  'content-type',
  'transfer-encoding',
  'mcp-session-id',
  'mcp-protocol-version',
  'mcp-method',
  'mcp-name',
  'origin',
  'last-event-id',
])

/** What admission needs of a request's headers. */
export interface ReadHeaders {
  readonly list: HeaderList
  readonly host: string
  readonly origin: string
  readonly contentType: string
  readonly accept: string
  readonly sessionId: string
  /** -1 when absent, NaN when it is no number. */
  readonly contentLength: number
  readonly credential: string
  /** A header that occurs twice although it must not, or undefined. */
  readonly repeated: string | undefined
}

/** Anything that can walk its headers, lower-case names, as uWebSockets.js requests can. */
export interface HeaderSource {
  forEach(visit: (name: string, value: string) => void): void
}

/** Says for one route which headers are kept. */
export interface HeaderSelection {
  readonly names: ReadonlySet<string>
  readonly mcpFamily: boolean
  /** Lower-case name of the header that carries the adapter's own token: read, never kept. */
  readonly credentialName: string
}

/** The selection of an MCP route. `passthrough` are the operator's names for that server, lower case. */
export function mcpSelection(
  passthrough: readonly string[],
  credentialName: string,
): HeaderSelection {
  return { names: new Set([...MCP_HEADERS, ...passthrough]), mcpFamily: true, credentialName }
}

/** The selection of upload and download routes. */
export function fileSelection(credentialName: string): HeaderSelection {
  return { names: FILE_HEADERS, mcpFamily: false, credentialName }
}

/** Walks the headers once. */
export function readHeaders(source: HeaderSource, selection: HeaderSelection): ReadHeaders {
  const list: string[] = []
  const found: { [name: string]: string } = {
    host: '',
    origin: '',
    'content-type': '',
    accept: '',
    'mcp-session-id': '',
    'content-length': '',
  }
  let seen: Set<string> | undefined
  let repeated: string | undefined
  let credential = ''
  source.forEach((name, value) => {
    if (SINGLE.has(name)) {
      seen ??= new Set()
      if (seen.has(name)) repeated = name
      seen.add(name)
    }
    if (name === selection.credentialName) credential = value
    else if (selection.names.has(name) || (selection.mcpFamily && name.startsWith('mcp-')))
      list.push(name, value)
    if (found[name] !== undefined) found[name] = value
  })
  const length = found['content-length'] ?? ''
  return {
    list,
    host: found['host'] ?? '',
    origin: found['origin'] ?? '',
    contentType: found['content-type'] ?? '',
    accept: found['accept'] ?? '',
    sessionId: found['mcp-session-id'] ?? '',
    contentLength: length === '' ? -1 : /^\d{1,15}$/.test(length) ? Number(length) : Number.NaN,
    credential,
    repeated,
  }
}

/** Whether an Accept header admits a media type; an absent header admits everything (RFC 9110 §12.5.1). */
export function accepts(accept: string, mediaType: string): boolean {
  if (accept === '' || accept.includes(mediaType)) return true
  const family = `${mediaType.slice(0, mediaType.indexOf('/'))}/*`
  return accept.includes('*/*') || accept.includes(family)
}
