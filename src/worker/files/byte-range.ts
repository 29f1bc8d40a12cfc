/** Which part of a file a request asks for, and whether it needs any of it (RFC 9110 §13 and §14). Pure. */

/** `length` bytes from `start`. */
export interface ByteRange {
  readonly start: number
  readonly length: number
}

/** What to answer to a Range header: everything, a part, or 416. */
export type RangeDecision = 'whole' | 'unsatisfiable' | ByteRange

/** Validators of the file as it is now. */
export interface Validators {
  /** With its quotes; strong. */
  readonly etag: string
  readonly mtimeMs: number
}

/**
 * Judges a `Range` header against a file of `sizeBytes`. Several ranges, other units and what can't be parsed mean the whole file, as the RFC
 * permits; so does an `If-Range` that does not name this very version.
 */
export function decideRange(
  range: string | undefined,
  ifRange: string | undefined,
  file: Validators & { readonly sizeBytes: number },
): RangeDecision {
  const match = /^bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*$/i.exec(range ?? '')
  const [, first = '', last = ''] = match ?? []
  if (match === null || (first === '' && last === '')) return 'whole'
  if (ifRange !== undefined && !namesVersion(ifRange.trim(), file)) return 'whole'
  const size = file.sizeBytes
  if (first === '') {
    const length = Math.min(Number(last), size)
    return length === 0 ? 'unsatisfiable' : { start: size - length, length }
  }
  const start = Number(first)
  const end = last === '' ? size - 1 : Math.min(Number(last), size - 1)
  if (last !== '' && Number(last) < start) return 'whole'
  return start >= size ? 'unsatisfiable' : { start, length: end - start + 1 }
}

/** Whether the client has this version already: `If-None-Match` decides alone when it is there. */
export function isNotModified(
  ifNoneMatch: string | undefined,
  ifModifiedSince: string | undefined,
  file: Validators,
): boolean {
  if (ifNoneMatch !== undefined) {
    const tags = new Set(ifNoneMatch.split(',').map((tag) => tag.trim().replace(/^W\//, '')))
    return tags.has('*') || tags.has(file.etag)
  }
  const since = ifModifiedSince === undefined ? Number.NaN : Date.parse(ifModifiedSince)
  return wholeSeconds(file.mtimeMs) <= since
}

/** An If-Range holds a strong entity tag or an exact date; a weak tag never matches. */
function namesVersion(ifRange: string, file: Validators): boolean {
  if (ifRange.startsWith('"') || ifRange.startsWith('W/')) return ifRange === file.etag
  return Date.parse(ifRange) === wholeSeconds(file.mtimeMs)
}

/** HTTP dates have no fraction. */
function wholeSeconds(timeMs: number): number {
  return Math.floor(timeMs / 1000) * 1000
}
