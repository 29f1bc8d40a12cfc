/** Files that a tool put into its result as content blocks. */
import { extname } from 'node:path'

import { extensionFor, sanitizeFilename } from '../../shared/files/names.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import { isJsonObject } from './dot-path.ts'

/** The bytes of a content block and a safe name for them. */
export interface EmbeddedFile {
  readonly bytes: Uint8Array
  readonly filename: string
}

/** A longer address names no file: characters. */
const MAX_URI = 4096

const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/

/** The first image, audio or embedded-resource block that holds a file; blocks whose base64 is broken are passed over. */
export function firstEmbeddedFile(result: JsonObject): EmbeddedFile | undefined {
  const content = result['content']
  if (!Array.isArray(content)) return undefined
  for (const block of content) {
    const file = isJsonObject(block) ? fileOf(block) : undefined
    if (file !== undefined) return file
  }
  return undefined
}

function fileOf(block: JsonObject): EmbeddedFile | undefined {
  switch (block['type']) {
    case 'image':
    case 'audio':
      return named(decodeBase64(block['data']), block['mimeType'], undefined)
    case 'resource': {
      const resource = block['resource']
      if (!isJsonObject(resource)) return undefined
      const { blob, text, mimeType, uri } = resource
      const bytes = typeof text === 'string' ? Buffer.from(text) : undefined
      return named(decodeBase64(blob) ?? bytes, mimeType, uri)
    }
    default:
      return undefined
  }
}

function named(
  bytes: Uint8Array | undefined,
  mimeType: unknown,
  uri: unknown,
): EmbeddedFile | undefined {
  if (bytes === undefined) return undefined
  const extension = typeof mimeType === 'string' ? extensionFor(mimeType) : ''
  const fallback = `artifact${extension}`
  const name = typeof uri === 'string' ? sanitizeFilename(lastSegment(uri), fallback) : fallback
  return { bytes, filename: extname(name) === '' ? name + extension : name }
}

/** What stands last in the path of a URI, decoded; the host of one without a path is not a name, nor is anything in an overlong one. */
function lastSegment(uri: string): string {
  if (uri.length > MAX_URI) return ''
  const path = uri.replace(/[?#].*$/s, '').replace(/^[a-z][a-z0-9+.-]{0,30}:(?:\/\/[^/]*)?/i, '')
  const segment = path.split('/').at(-1) ?? ''
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}

function decodeBase64(data: unknown): Uint8Array | undefined {
  if (typeof data !== 'string' || data === '') return undefined
  const compact = /\s/.test(data) ? data.replace(/\s+/g, '') : data
  if (compact.length % 4 === 1 || !BASE64.test(compact)) return undefined
  return Buffer.from(compact, 'base64')
}
