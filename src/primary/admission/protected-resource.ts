/**
 * What an OAuth client is told of this resource server: the metadata of RFC 9728, and the challenges (RFC 6750) that lead to it, as the MCP
 * specification has them (2025-11-25, basic/authorization).
 */
import type { Config } from '../../shared/config/config.ts'

/** Where metadata is served; the path of the resource follows. */
export const METADATA_PATH = '/.well-known/oauth-protected-resource'

/** The resource of all servers together, where an index of a server is asked for. */
export const ALL_SERVERS = -1

/** See the file comment. */
export class ProtectedResource {
  readonly #issuer: string | null
  readonly #audience: readonly string[]
  readonly #scopes: readonly string[]
  readonly #publicBaseUrl: string | null
  readonly #scheme: string
  readonly #mountPaths: readonly string[]

  constructor({ core, servers }: Pick<Config, 'core' | 'servers'>) {
    const { jwt } = core.auth
    this.#issuer = core.auth.enabled ? jwt.issuer : null
    this.#audience = jwt.audience
    this.#scopes = jwt.requiredScopes
    this.#publicBaseUrl = core.publicBaseUrl
    this.#scheme = core.tls.certFile === null ? 'http' : 'https'
    this.#mountPaths = servers.map(({ mountPath }) => mountPath)
  }

  /** What `aud` may be for a server, or for any of them; one is enough. Empty where there are no JWTs. */
  audiences(serverIndex: number): readonly string[] {
    if (this.#audience.length > 0) return this.#audience
    const base = this.#publicBaseUrl
    if (base === null) return []
    const mounted =
      serverIndex === ALL_SERVERS
        ? this.#mountPaths
        : this.#mountPaths.slice(serverIndex, serverIndex + 1)
    return [base, `${base}/`, ...mounted.map((path) => `${base}${path}`)]
  }

  /** The metadata document. `host` is the request's, which was accepted. */
  metadata(serverIndex: number, host: string): string {
    return JSON.stringify({
      resource: `${this.#base(host)}${this.#pathOf(serverIndex)}`,
      authorization_servers: this.#issuer === null ? [] : [this.#issuer],
      ...(this.#scopes.length === 0 ? {} : { scopes_supported: this.#scopes }),
      bearer_methods_supported: ['header'],
      resource_name: 'remote-mcp-adapter',
    })
  }

  /** The value of `WWW-Authenticate` for a request that is refused. `error` is undefined when it had no token at all. */
  challenge(
    error:
      | { readonly code: 'invalid_token' | 'insufficient_scope'; readonly text: string }
      | undefined,
    serverIndex: number,
    host: string,
  ): string {
    const parameters = [
      ...(error === undefined
        ? []
        : [
            ['error', error.code],
            ['error_description', error.text],
          ]),
      ...(this.#issuer === null
        ? []
        : [
            ...(this.#scopes.length === 0 ? [] : [['scope', this.#scopes.join(' ')]]),
            [
              'resource_metadata',
              `${this.#base(host)}${METADATA_PATH}${this.#pathOf(serverIndex)}`,
            ],
          ]),
    ]
    const written = parameters.map(([name, value]) => `${name}="${quotable(value ?? '')}"`)
    return ['Bearer', ...(written.length === 0 ? ['realm="mcp"'] : [written.join(', ')])].join(' ')
  }

  #pathOf(serverIndex: number): string {
    return this.#mountPaths[serverIndex] ?? ''
  }

  #base(host: string): string {
    return this.#publicBaseUrl ?? `${this.#scheme}://${host}`
  }
}

/** Inside a quoted-string (RFC 9110 §5.6.4), of the characters that RFC 6750 §3 allows. */
function quotable(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]|["\\]/g, "'")
}
