/** Turns requests for one origin into bytes, so that nothing in a header can become a header or a request of its own. */
import type { HeaderList } from '../../../shared/frames/frames.ts'
import type { UpstreamRequest } from '../upstream.ts'
import { TOKEN_LOWER } from './characters.ts'
import { invalidHeader } from './http1-errors.ts'

/** A request ready to be written. */
export interface EncodedRequest {
  /** The head, with the body behind it when that is small. A string holds Latin-1. */
  readonly head: Buffer | string
  /** A body that is too large to be worth copying. */
  readonly body: Uint8Array | null
  /** Whether the request asks the server to close the connection. */
  readonly closes: boolean
}

/** Up to here, copying a body behind its head is cheaper than writing it apart. */
const MAX_JOINED_BODY_BYTES = 65_536

/** What is done with a header of this name. */
type Treatment = 'sent' | 'host' | 'connection' | 'refused'

/** They say where a request ends or what the connection is for, which is decided here. */
const REFUSED: ReadonlySet<string> = new Set([
  'content-length',
  'expect',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
])

/** Names are few; ones that a client makes up must not fill the memory. */
const MAX_KNOWN_NAMES = 256

// oxlint-disable-next-line no-control-regex -- a tab is the one control character that a value may hold
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/

/** See the file comment. */
export class RequestEncoder {
  readonly #target: string
  readonly #host: string
  readonly #treatments = new Map<string, Treatment>()

  /**
   * `target` and `host` (with the port, if it isn't the scheme's own) as a parsed URL has them: the path, or for a proxy the whole. `proxyAuthorization` is
   * what a proxy is told about us.
   */
  constructor(target: string, host: string, proxyAuthorization?: string) {
    const credentials =
      proxyAuthorization === undefined ? '' : `proxy-authorization: ${proxyAuthorization}\r\n`
    this.#target = ` ${target} HTTP/1.1\r\n${credentials}`
    this.#host = `host: ${host}\r\n`
  }

  /** Throws ADAPTER_HEADER_INVALID for a header that can't be sent. A `host` among the headers replaces the URL's. */
  encode(request: UpstreamRequest): EncodedRequest {
    const { method, headers, body } = request
    let hasHost = false
    let closes = false
    let head = method + this.#target
    for (let i = 0; i + 1 < headers.length; i += 2) {
      const name = headers[i] ?? ''
      const value = headers[i + 1] ?? ''
      if (!VALUE.test(value))
        throw invalidHeader(name, 'its value holds characters that no header has')
      const treatment = this.#treatments.get(name) ?? this.#judge(name)
      if (treatment === 'refused') throw invalidHeader(name, 'it belongs to the connection')
      if (treatment === 'connection') {
        closes ||= value.toLowerCase() === 'close'
        continue
      }
      hasHost ||= treatment === 'host'
      head += `${name}: ${value}\r\n`
    }
    if (!hasHost) head += this.#host
    if (closes) head += 'connection: close\r\n'
    // A body that is a string is ASCII: as many characters as bytes.
    const length = typeof body === 'string' ? body.length : (body?.byteLength ?? 0)
    if (body !== null || method === 'POST') head += `content-length: ${length}\r\n`
    if (typeof body === 'string') return { head: `${head}\r\n${body}`, body: null, closes }
    return { ...joined(`${head}\r\n`, body), closes }
  }

  #judge(name: string): Treatment {
    const treatment = treatmentOf(name)
    if (this.#treatments.size < MAX_KNOWN_NAMES) this.#treatments.set(name, treatment)
    return treatment
  }
}

/** The value of `host` among headers, whatever its spelling. */
export function hostOf(headers: HeaderList): string | undefined {
  for (let i = 0; i + 1 < headers.length; i += 2) {
    if (headers[i]?.toLowerCase() === 'host') return headers[i + 1]
  }
  return undefined
}

function treatmentOf(name: string): Treatment {
  if (name === '') throw invalidHeader(name, 'it has no name')
  for (let i = 0; i < name.length; i++) {
    if ((TOKEN_LOWER[name.charCodeAt(i)] ?? 0) === 0)
      throw invalidHeader(name, 'its name holds characters that no name has')
  }
  const lower = name.toLowerCase()
  if (lower === 'host' || lower === 'connection') return lower
  return REFUSED.has(lower) ? 'refused' : 'sent'
}

function joined(head: string, body: Uint8Array | null): { head: Buffer; body: Uint8Array | null } {
  if (body === null || body.byteLength === 0 || body.byteLength > MAX_JOINED_BODY_BYTES) {
    return { head: Buffer.from(head, 'latin1'), body: body?.byteLength === 0 ? null : body }
  }
  const bytes = Buffer.allocUnsafe(head.length + body.byteLength)
  bytes.write(head, 'latin1')
  bytes.set(body, head.length)
  return { head: bytes, body: null }
}
