/**
 * Cross-origin requests of browsers (Fetch standard, "CORS protocol"), as the outermost layer: what a page may do is told with every answer, errors
 * of any kind included, and a preflight is answered before anything else is asked of the request, since browsers send no credentials with it.
 */
import type { HeaderList } from '../../shared/frames/frames.ts'

/** `core.cors`. */
export interface CorsOptions {
  readonly enabled: boolean
  /** Lower case; `*` for any. */
  readonly allowedOrigins: readonly string[]
  readonly allowedMethods: readonly string[]
  readonly allowedHeaders: readonly string[]
  readonly exposedHeaders: readonly string[]
  readonly allowCredentials: boolean
  readonly maxAgeSeconds: number
}

/** What a page that is a client needs to read besides what every page may. */
const EXPOSED = [
  'Mcp-Session-Id',
  'Mcp-Protocol-Version',
  'WWW-Authenticate',
  'Retry-After',
  'X-Request-Id',
  'Content-Disposition',
  'Content-Range',
  'Accept-Ranges',
  'ETag',
] as const

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
const TOKENS = /^[!#$%&'*+.^_`|~0-9A-Za-z, \t-]*$/
/** Longest list of requested headers that is repeated back. */
const MAX_REQUESTED = 4_096
const MAX_REMEMBERED = 1_000

/** See the file comment. */
export class CorsPolicy {
  readonly #options: CorsOptions
  readonly #always: HeaderList
  readonly #origins: ReadonlySet<string>
  readonly #isOpen: boolean
  readonly #exposed: string
  // Bounded, because a client chooses the key.
  readonly #answers = new Map<string, HeaderList>()

  /** `always` goes with every answer, whatever the origin. */
  constructor(options: CorsOptions, always: HeaderList = []) {
    this.#options = options
    this.#always = always
    this.#origins = new Set(options.enabled ? options.allowedOrigins : [])
    this.#isOpen = this.#origins.has('*')
    this.#exposed = [...EXPOSED, ...options.exposedHeaders].join(', ')
  }

  /** The headers that every answer to a request with this Origin (empty: none) gets. */
  headersFor(origin: string): HeaderList {
    if (!this.#options.enabled) return this.#always
    const known = this.#answers.get(origin)
    if (known !== undefined) return known
    const headers = [...this.#always, ...this.#grant(origin)]
    if (this.#answers.size >= MAX_REMEMBERED) this.#answers.clear()
    this.#answers.set(origin, headers)
    return headers
  }

  /** The headers that answer an OPTIONS request as a preflight; undefined when it is none, or of an origin that is not allowed. */
  preflight(
    origin: string,
    asked: { readonly method: string; readonly headers: string },
  ): HeaderList | undefined {
    if (!this.#allows(origin) || !TOKEN.test(asked.method)) return undefined
    const { allowedMethods, allowedHeaders, maxAgeSeconds } = this.#options
    // Repeated back where any is allowed: `*` itself would not cover Authorization, nor anything with credentials.
    const methods = allowedMethods.includes('*') ? asked.method : allowedMethods.join(', ')
    const headers = allowedHeaders.includes('*')
      ? repeatable(asked.headers)
      : allowedHeaders.join(', ')
    return [
      ...this.headersFor(origin),
      'vary',
      'Access-Control-Request-Method, Access-Control-Request-Headers',
      'access-control-allow-methods',
      methods,
      ...(headers === '' ? [] : ['access-control-allow-headers', headers]),
      'access-control-max-age',
      String(maxAgeSeconds),
    ]
  }

  #allows(origin: string): boolean {
    return origin !== '' && (this.#isOpen || this.#origins.has(origin.toLowerCase()))
  }

  #grant(origin: string): HeaderList {
    const exposed = ['access-control-expose-headers', this.#exposed]
    // The same for everybody, so it does not vary; configuration excludes credentials here.
    if (this.#isOpen) return ['access-control-allow-origin', '*', ...exposed]
    if (!this.#allows(origin)) return ['vary', 'Origin']
    const credentials = this.#options.allowCredentials
      ? ['access-control-allow-credentials', 'true']
      : []
    return ['vary', 'Origin', 'access-control-allow-origin', origin, ...credentials, ...exposed]
  }
}

function repeatable(list: string): string {
  return list.length <= MAX_REQUESTED && TOKENS.test(list) ? list : ''
}
