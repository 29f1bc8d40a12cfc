/** Reads a request's headers once: keeps what a worker needs and finds what must be refused. */
import type { HeaderList } from '../../shared/frames/frames.ts'
import { CORRELATION_HEADER } from './correlation-id.ts'

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
  'authorization',
])

// oxlint-disable-next-line no-control-regex -- control characters are what must not pass
const UNPRINTABLE = /[\u0000-\u0008\u000a-\u001f\u007f\ufffd]/
const PLAIN = /^[\t\u0020-\u007e]*$/

/** What admission needs of a request's headers. */
export interface ReadHeaders {
  readonly list: HeaderList
  readonly host: string
  readonly origin: string
  readonly contentType: string
  readonly accept: string
  readonly sessionId: string
  /** Length of the body; -1 when it comes in chunks, its length unknown. */
  readonly contentLength: number
  /** `X-Request-Id`; empty when it is missing, or there more than once. */
  readonly correlationId: string
  /** The header of `core.auth.header_name`; empty when it is missing. */
  readonly credential: string
  /** `Authorization`; empty when it is missing. */
  readonly authorization: string
  /** Whether the operator passes `Authorization` on to the upstream: then it is not for us. */
  readonly passesAuthorization: boolean
  /** The first of the required headers that is not there, or blank; undefined when none is missing. */
  readonly missing: string | undefined
  /** What makes the request ambiguous or unfit to be passed on; undefined when nothing does. */
  readonly problem: string | undefined
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
  readonly passesAuthorization: boolean
  /** Names that must be there, in lower case. */
  readonly required: readonly string[]
}

/** The selection of an MCP route, by the operator's names for that server. */
export function mcpSelection(
  clientHeaders: { readonly passthrough: readonly string[]; readonly required: readonly string[] },
  credentialName: string,
): HeaderSelection {
  const passthrough = clientHeaders.passthrough.map((name) => name.toLowerCase())
  return {
    names: new Set([...MCP_HEADERS, ...passthrough]),
    mcpFamily: true,
    credentialName,
    passesAuthorization: passthrough.includes('authorization'),
    required: clientHeaders.required.map((name) => name.toLowerCase()),
  }
}

/** The selection of upload and download routes. */
export function fileSelection(credentialName: string): HeaderSelection {
  return {
    names: FILE_HEADERS,
    mcpFamily: false,
    credentialName,
    passesAuthorization: false,
    required: [],
  }
}

/** Walks the headers once. Values beyond ASCII are kept as one character for each byte, which is how they leave again. */
export function readHeaders(source: HeaderSource, selection: HeaderSelection): ReadHeaders {
  const list: string[] = []
  const found: { [name: string]: string | undefined } = {}
  let problem: string | undefined
  let credential: string | undefined
  let correlationId: string | undefined
  let connection = ''
  let missing = selection.required
  source.forEach((name, value) => {
    if (SINGLE.has(name)) {
      if (found[name] !== undefined) problem ??= `header ${name} occurs more than once`
      found[name] = value
    } else if (name === 'accept')
      found[name] = found[name] === undefined ? value : `${found[name]}, ${value}`
    if (missing.length > 0 && value !== '') missing = missing.filter((one) => one !== name)
    if (name === CORRELATION_HEADER) correlationId = correlationId === undefined ? value : ''
    if (name === 'connection') connection += `,${value}`
    else if (name === selection.credentialName) {
      if (credential !== undefined) problem ??= `header ${name} occurs more than once`
      credential = value
    } else if (selection.names.has(name) || (selection.mcpFamily && name.startsWith('mcp-'))) {
      const isPlain = PLAIN.test(value)
      if (!isPlain && UNPRINTABLE.test(value))
        problem ??= `header ${name} holds control characters or broken UTF-8`
      list.push(name, isPlain ? value : Buffer.from(value, 'utf8').toString('latin1'))
    }
  })
  return {
    list: connection === '' ? list : withoutHops(list, connection),
    host: found['host'] ?? '',
    origin: found['origin'] ?? '',
    contentType: found['content-type'] ?? '',
    accept: found['accept'] ?? '',
    sessionId: found['mcp-session-id'] ?? '',
    contentLength: bodyLength(found),
    correlationId: correlationId ?? '',
    credential: credential ?? '',
    authorization: found['authorization'] ?? '',
    passesAuthorization: selection.passesAuthorization,
    missing: missing[0] ?? selection.required.find((name) => namesHop(connection, name)),
    problem: problem ?? framingProblem(found),
  }
}

/** The list without the headers that `Connection` names: they are about this connection (RFC 9110 §7.6.1). */
function withoutHops(list: readonly string[], connection: string): readonly string[] {
  // What nearly every client sends names no header.
  if (connection === ',keep-alive' || connection === ',close') return list
  const named = hopsOf(connection)
  const isHop = (name: string | undefined): boolean => named.has(name ?? '')
  if (!list.some((name, index) => index % 2 === 0 && isHop(name))) return list
  return list.filter((_, index) => !isHop(list[index - (index % 2)]))
}

/** Whether a header that is there goes no further. One that is required must not be lost that way. */
function namesHop(connection: string, name: string): boolean {
  return connection !== '' && hopsOf(connection).has(name)
}

function hopsOf(connection: string): ReadonlySet<string> {
  return new Set(
    connection
      .toLowerCase()
      .split(',')
      .map((name) => name.trim()),
  )
}

function bodyLength(found: Readonly<Record<string, string | undefined>>): number {
  if (found['transfer-encoding'] !== undefined) return -1
  const length = found['content-length'] ?? '0'
  return /^\d{1,15}$/.test(length) ? Number(length) : -1
}

/** Framing that two readers could understand differently is refused (RFC 9112 §6.3): what one takes for a body the other takes for a request. */
function framingProblem(found: Readonly<Record<string, string | undefined>>): string | undefined {
  const { 'content-length': length, 'transfer-encoding': encoding } = found
  if (length !== undefined && !/^\d{1,15}$/.test(length)) return 'content-length is not a number'
  if (encoding === undefined) return undefined
  if (encoding.toLowerCase() !== 'chunked') return 'transfer-encoding can only be chunked'
  return length === undefined
    ? undefined
    : 'content-length and transfer-encoding exclude each other'
}

/** Whether an Accept header admits a media type; an absent header admits everything (RFC 9110 §12.5.1). */
export function accepts(accept: string, mediaType: string): boolean {
  if (accept === '' || accept.includes(mediaType)) return true
  const family = `${mediaType.slice(0, mediaType.indexOf('/'))}/*`
  return accept.includes('*/*') || accept.includes(family)
}
