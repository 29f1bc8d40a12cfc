/** File-name rules: what a name from outside becomes on disk and in answers, and which media type a file has. Pure. */
import { extname } from 'node:path'

const MAX_NAME_BYTES = 255
/** A longer "extension" is not one; it is cut with the rest. */
const MAX_EXTENSION_BYTES = 32
/** How many leading bytes `mimeTypeOf` looks at; more are ignored. */
export const SNIFF_BYTES = 512

/** Control, format (bidi overrides, zero-width) and line-separating characters, and lone surrogates. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu
const WINDOWS_RESERVED = /[<>:"|?*]/g
/** What no name ends in: Windows drops dots and blanks there, and others are not seen. */
const END = /[.\s]+$/
const WINDOWS_DEVICE = /^(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)/i

/**
 * Makes one safe path component of a name that a client or tool chose: the last component under `/` and `\`, NFC, without invisible characters,
 * never hidden (leading dots become `_`, so that hidden files on disk are ours), at most 255 bytes of UTF-8 with the extension kept. Answers
 * `fallback` when nothing is left; `fallback` must be a safe name itself.
 */
export function sanitizeFilename(raw: string, fallback: string): string {
  const last = raw.split(/[/\\]/).at(-1) ?? ''
  const visible = last
    .replace(INVISIBLE, '')
    // After that: what was apart may compose now.
    .normalize('NFC')
    .replace(WINDOWS_RESERVED, '_')
    .trim()
    .replace(END, '')
  if (visible === '') return fallback
  const shown = visible.replace(/^\.+/, '_')
  return cutName(WINDOWS_DEVICE.test(shown) ? `_${shown}` : shown)
}

/** Media type of a file by its first bytes (PDF, PNG, JPEG, GIF, WebP), else its extension, else `text/plain` for UTF-8, else octet-stream. */
export function mimeTypeOf(filename: string, firstBytes?: Uint8Array): string {
  const head = firstBytes?.subarray(0, SNIFF_BYTES)
  const byMagic = head && MAGIC.find((entry) => startsWith(head, entry))?.mimeType
  if (byMagic !== undefined) return byMagic
  const byExtension = TYPES.get(extensionOf(filename).toLowerCase())
  if (byExtension !== undefined) return byExtension
  return head && head.byteLength > 0 && isText(head) ? 'text/plain' : OCTET_STREAM
}

/** The usual extension of a media type, with its dot; empty when it has none that we know. Parameters of the type are ignored. */
export function extensionFor(mimeType: string): string {
  const essence = (mimeType.split(';', 1)[0] ?? '').trim().toLowerCase()
  for (const [extension, type] of TYPES) if (type === essence) return extension
  return ''
}

/** A safe name with an extension, where it has none. */
export function withExtension(filename: string, extension: string): string {
  return extname(filename) === '' ? sanitizeFilename(filename + extension, filename) : filename
}

/** A safe name with the usual extension of a media type, where it has none. */
export function withMimeExtension(filename: string, mimeType: string): string {
  return withExtension(filename, extensionFor(mimeType))
}

/** The media type of bytes that nothing is known of. */
export const OCTET_STREAM = 'application/octet-stream'

function cutName(name: string): string {
  if (Buffer.byteLength(name) <= MAX_NAME_BYTES) return name
  const extension = extensionOf(name)
  const kept = Buffer.byteLength(extension) <= MAX_EXTENSION_BYTES ? extension : ''
  const stem = name.slice(0, name.length - kept.length)
  return cutBytes(stem, MAX_NAME_BYTES - Buffer.byteLength(kept)).replace(END, '') + kept
}

/** The longest prefix of whole code points that fits. */
function cutBytes(text: string, maxBytes: number): string {
  let bytes = 0
  let end = 0
  for (const character of text) {
    bytes += Buffer.byteLength(character)
    if (bytes > maxBytes) break
    end += character.length
  }
  return text.slice(0, end)
}

function extensionOf(name: string): string {
  const dot = name.lastIndexOf('.')
  return dot > 0 && dot < name.length - 1 ? name.slice(dot) : ''
}

interface Magic {
  readonly mimeType: string
  readonly at0: string
  readonly at8?: string
}

/** Signatures as latin-1 text. */
const MAGIC: readonly Magic[] = [
  { mimeType: 'application/pdf', at0: '%PDF-' },
  { mimeType: 'image/png', at0: '\x89PNG\r\n\x1a\n' },
  { mimeType: 'image/jpeg', at0: '\xff\xd8\xff' },
  { mimeType: 'image/gif', at0: 'GIF87a' },
  { mimeType: 'image/gif', at0: 'GIF89a' },
  { mimeType: 'image/webp', at0: 'RIFF', at8: 'WEBP' },
]

function startsWith(head: Uint8Array, magic: Magic): boolean {
  const start = Buffer.from(head.buffer, head.byteOffset, Math.min(head.byteLength, 16))
  const text = start.toString('latin1')
  return text.startsWith(magic.at0) && (magic.at8 === undefined || text.startsWith(magic.at8, 8))
}

/** UTF-8 without control characters that text never has; a code point cut off at the end is fine. */
function isText(head: Uint8Array): boolean {
  for (const byte of head) {
    if (byte < 0x20 && byte !== 0x09 && byte !== 0x0a && byte !== 0x0d && byte !== 0x0c)
      return false
  }
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(head, { stream: true })
    return true
  } catch {
    return false
  }
}

/** Extension to media type; the first extension of a type is the one that `extensionFor` answers. */
const TYPES: ReadonlyMap<string, string> = new Map([
  ['.pdf', 'application/pdf'],
  ['.png', 'image/png'],
  ['.jpg', 'image/jpeg'],
  ['.jpeg', 'image/jpeg'],
  ['.gif', 'image/gif'],
  ['.webp', 'image/webp'],
  ['.svg', 'image/svg+xml'],
  ['.bmp', 'image/bmp'],
  ['.ico', 'image/x-icon'],
  ['.tif', 'image/tiff'],
  ['.tiff', 'image/tiff'],
  ['.avif', 'image/avif'],
  ['.heic', 'image/heic'],
  ['.txt', 'text/plain'],
  ['.log', 'text/plain'],
  ['.md', 'text/markdown'],
  ['.csv', 'text/csv'],
  ['.tsv', 'text/tab-separated-values'],
  ['.html', 'text/html'],
  ['.htm', 'text/html'],
  ['.css', 'text/css'],
  ['.js', 'text/javascript'],
  ['.mjs', 'text/javascript'],
  ['.xml', 'application/xml'],
  ['.json', 'application/json'],
  ['.jsonl', 'application/jsonl'],
  ['.har', 'application/json'],
  ['.yaml', 'application/yaml'],
  ['.yml', 'application/yaml'],
  ['.toml', 'application/toml'],
  ['.zip', 'application/zip'],
  ['.gz', 'application/gzip'],
  ['.tar', 'application/x-tar'],
  ['.7z', 'application/x-7z-compressed'],
  ['.doc', 'application/msword'],
  ['.docx', 'application/vnd.openxmlformats-officedocument.wordprocessingml.document'],
  ['.xls', 'application/vnd.ms-excel'],
  ['.xlsx', 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet'],
  ['.ppt', 'application/vnd.ms-powerpoint'],
  ['.pptx', 'application/vnd.openxmlformats-officedocument.presentationml.presentation'],
  ['.odt', 'application/vnd.oasis.opendocument.text'],
  ['.ods', 'application/vnd.oasis.opendocument.spreadsheet'],
  ['.rtf', 'application/rtf'],
  ['.epub', 'application/epub+zip'],
  ['.parquet', 'application/vnd.apache.parquet'],
  ['.sqlite', 'application/vnd.sqlite3'],
  ['.wasm', 'application/wasm'],
  ['.mp3', 'audio/mpeg'],
  ['.wav', 'audio/wav'],
  ['.ogg', 'audio/ogg'],
  ['.flac', 'audio/flac'],
  ['.mp4', 'video/mp4'],
  ['.webm', 'video/webm'],
  ['.mov', 'video/quicktime'],
])
