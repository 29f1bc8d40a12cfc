/** What an upload request says about itself, before its body is read. Pure. */
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { headerValue } from '../../shared/frames/header-list.ts'
import { extensionFor, OCTET_STREAM, sanitizeFilename } from '../../shared/files/names.ts'
import { MAX_FILES, type ReceiveOrder } from './receive-body.ts'

/** How the body is to be read. */
export interface UploadForm {
  readonly form: ReceiveOrder['form']
  /** Length of the body, null when the client does not say. */
  readonly bodyBytes: number | null
  /** A digest that came beside the body (`PUT` only): lower-case hex. */
  readonly digest: string | undefined
}

/** Delimiters and part headers of one part are less than this. */
export const PART_OVERHEAD_BYTES = 64 * 1024
const HEX_DIGEST = /^[0-9a-f]{64}$/i

/** Reads method, headers and query. Throws an `AdapterError` for what can't be received, also for a body that is too large by its own account. */
export function readUploadForm(
  request: { readonly method: string; readonly headers: HeaderList },
  query: URLSearchParams,
  maxFileBytes: number,
): UploadForm {
  refuseEncoded(request.headers)
  const bodyBytes = lengthOf(request.headers)
  const contentType = headerValue(request.headers, 'content-type') ?? ''
  const isForm = request.method === 'POST'
  if (isForm && !/^multipart\/form-data\s*(?:;|$)/i.test(contentType)) {
    throw new AdapterError(
      'ADAPTER_UNSUPPORTED_MEDIA_TYPE',
      'POST takes multipart/form-data with parts named "file"; use PUT for a bare body',
    )
  }
  const capBytes = isForm ? MAX_FILES * (maxFileBytes + PART_OVERHEAD_BYTES) : maxFileBytes
  if (bodyBytes !== null && bodyBytes > capBytes) throw tooLarge(maxFileBytes)
  if (isForm) return { form: { kind: 'multipart', contentType }, bodyBytes, digest: undefined }
  const mimeType = essenceOf(contentType)
  const filename = filenameOf(request.headers, query, mimeType)
  return {
    form: { kind: 'raw', filename, mimeType },
    bodyBytes,
    digest: digestBeside(request.headers, query),
  }
}

/** A digest as lower-case hex. Throws `ADAPTER_UPLOAD_MALFORMED` when it is not one. */
export function parseDigest(text: string): string {
  if (HEX_DIGEST.test(text)) return text.toLowerCase()
  throw malformed('a sha256 value must be 64 hexadecimal digits')
}

function tooLarge(maxFileBytes: number): AdapterError {
  return new AdapterError(
    'ADAPTER_UPLOAD_TOO_LARGE',
    `the body is larger than the limit of ${maxFileBytes} bytes for a file`,
    { data: { max_file_bytes: maxFileBytes } },
  )
}

/** A compressed body would be stored compressed, under a digest that its sender does not know. */
function refuseEncoded(headers: HeaderList): void {
  const encoding = headerValue(headers, 'content-encoding')?.trim().toLowerCase() ?? 'identity'
  if (encoding === 'identity' || encoding === '') return
  throw new AdapterError('ADAPTER_UNSUPPORTED_MEDIA_TYPE', 'send the file without Content-Encoding')
}

function lengthOf(headers: HeaderList): number | null {
  const text = headerValue(headers, 'content-length')
  if (text === undefined) return null
  if (/^[0-9]{1,15}$/.test(text)) return Number(text)
  throw malformed('Content-Length is not a number of bytes')
}

/** `application/x-www-form-urlencoded` is what some clients say of any body when they are not told. */
function essenceOf(contentType: string): string {
  const essence = (contentType.split(';', 1)[0] ?? '').trim().toLowerCase()
  return essence === '' || essence === 'application/x-www-form-urlencoded' ? OCTET_STREAM : essence
}

function filenameOf(headers: HeaderList, query: URLSearchParams, mimeType: string): string {
  const named =
    query.get('filename') ?? dispositionName(headerValue(headers, 'content-disposition'))
  return sanitizeFilename(named ?? '', `upload${extensionFor(mimeType)}`)
}

/** The `filename*` or `filename` of a Content-Disposition header (RFC 6266). */
function dispositionName(header: string | undefined): string | undefined {
  if (header === undefined) return undefined
  const extended = /;\s*filename\*\s*=\s*UTF-8'[^']*'([^;\s]+)/i.exec(header)?.[1]
  const decoded = extended === undefined ? undefined : decodeOrUndefined(extended)
  if (decoded !== undefined) return decoded
  const quoted = /;\s*filename\s*=\s*"((?:[^"\\]|\\.)*)"/i.exec(header)?.[1]
  if (quoted !== undefined) return utf8Of(quoted.replace(/\\(.)/g, '$1'))
  return /;\s*filename\s*=\s*([^;\s"]+)/i.exec(header)?.[1]
}

function decodeOrUndefined(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

/** Header bytes arrive as latin-1 where the listener does not decode them; many clients put UTF-8 there. */
function utf8Of(text: string): string {
  // oxlint-disable-next-line no-control-regex -- the range of single bytes is what is asked for
  if (!/^[\u0000-\u00ff]*$/.test(text)) return text
  const decoded = Buffer.from(text, 'latin1').toString('utf8')
  return decoded.includes('\ufffd') ? text : decoded
}

/** `?sha256=` as hex, or `Content-Digest: sha-256=:base64:` (RFC 9530); both only when they agree. */
function digestBeside(headers: HeaderList, query: URLSearchParams): string | undefined {
  const inQuery = query
    .getAll('sha256')
    .map((value) => value.trim())
    .filter((value) => value !== '')
    .map(parseDigest)
  const header = headerValue(headers, 'content-digest')
  const base64 = header && /(?:^|,)\s*sha-256\s*=\s*:([^:]*):/i.exec(header)?.[1]
  const inHeader = base64 === undefined || base64 === '' ? [] : [digestOfBase64(base64)]
  const [digest, ...others] = new Set([...inQuery, ...inHeader])
  if (others.length > 0) throw malformed('the request names different digests for one file')
  return digest
}

function digestOfBase64(text: string): string {
  const bytes = Buffer.from(text, 'base64')
  if (bytes.byteLength === 32 && /^[A-Za-z0-9+/]{43}=?$/.test(text)) return bytes.toString('hex')
  throw malformed('Content-Digest does not hold a SHA-256 digest')
}

function malformed(message: string): AdapterError {
  return new AdapterError('ADAPTER_UPLOAD_MALFORMED', message)
}
