/** The kinds of value a field can hold, with the coercions and bounds that every section shares. */

import { z } from 'zod'

import { patternProblem } from '../patterns.ts'
import { parseByteSize } from '../units.ts'

const TRUE_WORDS = new Set(['true', 't', 'yes', 'y', 'on', '1'])
const FALSE_WORDS = new Set(['false', 'f', 'no', 'n', 'off', '0'])
const WHOLE_NUMBER = /^\s*[+-]?\d+(\.0+)?\s*$/
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
/** RFC 9110 field-value: visible characters, blanks and tabs inside, obs-text. */
const HEADER_VALUE = /^(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?$/
const PATH = /^(?:\/[A-Za-z0-9._~@+-]+)+$/
/** The host may be an IPv6 address in brackets. */
const HOST_AND_PORT = /^(?:\[[0-9A-Fa-f:.]+\]|[^\s:/@[\]]+):\d{1,5}$/
const ORIGIN = /^(?:\*|null|[A-Za-z][A-Za-z0-9+.-]*:\/\/[^/?#\s@]+)$/
const URI_SCHEME = /^[A-Za-z][A-Za-z0-9+.-]*:\/\/$/

/** The header that carries the adapter's own token unless another is configured. */
export const DEFAULT_AUTH_HEADER_NAME = 'X-Mcp-Adapter-Auth-Token'

/** A section: a mapping that refuses unknown keys and may be left out when all its fields have defaults. */
export function section<Shape extends z.ZodRawShape>(shape: Shape) {
  return z.strictObject(shape)
}

/** A truth value; the usual words and digits count too, so that `"${FLAG}"` works. */
export function bool() {
  return z.preprocess((value, context) => {
    if (typeof value === 'boolean') return value
    const word = typeof value === 'string' ? value.trim().toLowerCase() : String(value)
    if (TRUE_WORDS.has(word)) return true
    if (FALSE_WORDS.has(word)) return false
    context.addIssue({ code: 'custom', message: 'must be true or false' })
    return value
  }, z.boolean())
}

/** A whole number within bounds; digits in quotes count too, so that `"${PORT}"` works. */
export function integer(bounds: { readonly min: number; readonly max?: number }) {
  const range =
    bounds.max === undefined ? `${bounds.min} or more` : `${bounds.min} to ${bounds.max}`
  const atLeast = z.int().min(bounds.min)
  return z.preprocess(
    (value, context) => {
      const number =
        typeof value === 'string' && WHOLE_NUMBER.test(value) ? Number.parseInt(value, 10) : value
      if (Number.isSafeInteger(number)) return number
      context.addIssue({ code: 'custom', message: `must be a whole number, ${range}` })
      return number
    },
    bounds.max === undefined ? atLeast : atLeast.max(bounds.max),
  )
}

/** A whole number of at least 1. */
export function positive() {
  return integer({ min: 1 })
}

/** A share, from 0 to 1; numbers in quotes count too. */
export function ratio() {
  return z.preprocess((value, context) => {
    const number =
      typeof value === 'string' && /^\s*[01]?(?:\.\d+)?\s*$/.test(value) && value.trim() !== ''
        ? Number(value)
        : value
    if (typeof number === 'number' && number >= 0 && number <= 1) return number
    context.addIssue({ code: 'custom', message: 'must be a number from 0 to 1' })
    return number
  }, z.number().min(0).max(1))
}

/** A byte count, as a number or as text with a unit. */
export function byteSize(bounds: { readonly min: number; readonly max?: number } = { min: 0 }) {
  const atLeast = z.int().min(bounds.min)
  return z
    .preprocess(
      (value, context) => {
        const bytes = parseByteSize(value)
        if (bytes !== undefined) return bytes
        context.addIssue({
          code: 'custom',
          message:
            'must be a byte size: a whole number with an optional unit (k, M, G, T or Ki, Mi, Gi, Ti), such as 10Mi',
        })
        return value
      },
      bounds.max === undefined ? atLeast : atLeast.max(bounds.max),
    )
    .meta({ format: 'byte-size' })
}

/** Text that is trimmed and may not be blank. */
export function text() {
  return z.string().trim().min(1)
}

/** Text or null, where blank means null: `"${NAME:-}"` switches the field off. */
export function blankIsNull() {
  return z
    .string()
    .nullable()
    .transform((value) => (value === null || value.trim() === '' ? null : value))
}

/** One of a fixed set of words. */
export function choice<const Words extends readonly [string, ...string[]]>(words: Words) {
  return z.enum(words)
}

/** Keys, the first of which is in use while all are accepted: one as text, or a list. Always a list when read. */
export function keyRing() {
  const key = z.string().refine((secret) => secret.trim() !== '', 'must not be blank')
  return z
    .union([key, z.array(key).min(1)])
    .transform((keys): readonly string[] => (typeof keys === 'string' ? [keys] : keys))
}

/** The origin of a page, as browsers send it; `*` for any. */
export function origin() {
  return z
    .string()
    .trim()
    .toLowerCase()
    .regex(ORIGIN, 'must be an origin such as https://app.example.com, without a path')
}

/** An HTTP header name. */
export function headerName() {
  return z
    .string()
    .trim()
    .regex(HEADER_NAME, 'must be an HTTP header name (letters, digits and - without blanks)')
}

/** Header names to values. */
export function headerMap() {
  return z.record(
    headerName(),
    z
      .string()
      .regex(
        HEADER_VALUE,
        'must be an HTTP header value (no line breaks, no blanks at either end)',
      ),
  )
}

/** An HTTP path of the adapter: gets its leading `/`, loses its trailing ones, and is never bare `/`. */
export function httpPath() {
  return z
    .string()
    .overwrite(normalizePath)
    .refine((path) => path !== '/', 'must not be blank or /; give it a path such as /mcp/files')
    .refine(
      (path) => path === '/' || isPlainPath(path),
      'may use only letters, digits and . _ ~ @ + - between single slashes, and no . or .. segment',
    )
}

/** A regular expression that can be matched in linear time, whatever the text. */
export function pattern() {
  return z
    .string()
    .min(1)
    .superRefine((source, context) => {
      const problem = source === '' ? undefined : patternProblem(source)
      if (problem !== undefined) {
        context.addIssue({
          code: 'custom',
          message: `must be a regular expression that can be matched in linear time (RE2): ${problem}; look-around and back-references are not, and special characters that stand for themselves need a \\ before them`,
        })
      }
    })
}

/** A URI scheme with its slashes, trimmed and lower-cased. */
export function uriScheme() {
  return z
    .string()
    .trim()
    .toLowerCase()
    .regex(URI_SCHEME, 'must be a URI scheme that ends in ://, such as upload://')
}

/** The address of a server, `host:port`. */
export function hostAndPort() {
  return z
    .string()
    .trim()
    .regex(HOST_AND_PORT, 'must be host:port, such as redis-1:26379 or [::1]:26379')
    .refine(
      (address) =>
        !HOST_AND_PORT.test(address) || isPort(address.slice(address.lastIndexOf(':') + 1)),
      'must end in a port from 1 to 65535',
    )
}

/** A simple value, or a section that says more. */
export function orSection<Simple extends z.ZodType, Section extends z.ZodObject>(
  simple: Simple,
  detailed: Section,
) {
  return z.union([simple, detailed])
}

/** An absolute http or https URL. */
export function httpUrl() {
  return z
    .string()
    .trim()
    .refine((url) => isHttpUrl(url), 'must be an absolute URL that begins with http:// or https://')
}

/** True for an absolute URL whose scheme is http or https. */
export function isHttpUrl(url: string): boolean {
  return /^https?:\/\//i.test(url) && !/\s/.test(url) && URL.canParse(url)
}

function isPort(digits: string): boolean {
  const port = Number(digits)
  return port >= 1 && port <= 65_535
}

function normalizePath(path: string): string {
  return `/${path.trim().replace(/^\/+/, '').replace(/\/+$/, '')}`
}

function isPlainPath(path: string): boolean {
  return PATH.test(path) && !path.split('/').some((segment) => segment === '.' || segment === '..')
}

/** What is wrong with a URL that `hasReadableUser` is false for. */
export const UNREADABLE_USER =
  'has a % in its user or password that encodes nothing; write %25 for a percent sign'

/** Whether user and password of a URL, where it has them, can be decoded. */
export function hasReadableUser(url: string): boolean {
  if (!URL.canParse(url)) return true
  const { username, password } = new URL(url)
  try {
    for (const part of [username, password]) decodeURIComponent(part)
    return true
  } catch {
    return false
  }
}
