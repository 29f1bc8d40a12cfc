/** The route table: which path belongs to what. Paths are compared as received; configuration made sure that none collides. */
import type { Config } from '../shared/config/config.ts'
import { ALL_SERVERS, METADATA_PATH } from './admission/protected-resource.ts'

/** Where a request goes. `serverIndex` is -1 when a path of that route names no configured server. */
export type Route =
  | { readonly kind: 'mcp'; readonly serverIndex: number }
  /** The stream of a legacy client, and where its messages go. */
  | { readonly kind: 'sse' | 'messages'; readonly serverIndex: number }
  | { readonly kind: 'upload'; readonly serverIndex: number }
  | { readonly kind: 'artifact'; readonly serverIndex: number; readonly sessionId: string }
  | { readonly kind: 'health'; readonly probe: 'livez' | 'readyz' | 'healthz' }
  /** Metadata of RFC 9728; `serverIndex` is `ALL_SERVERS` for that of all servers. */
  | { readonly kind: 'metadata'; readonly serverIndex: number }
  | { readonly kind: 'none' }

const NONE: Route = { kind: 'none' }

/** Matches request paths (without query). */
export class RouteTable {
  readonly #fixed = new Map<string, Route>()
  readonly #serverIndexById = new Map<string, number>()
  readonly #uploadPrefix: string

  constructor(config: Pick<Config, 'core' | 'servers'>) {
    this.#uploadPrefix = `${config.core.uploadPath}/`
    this.#fixed.set('/livez', { kind: 'health', probe: 'livez' })
    this.#fixed.set('/readyz', { kind: 'health', probe: 'readyz' })
    this.#fixed.set('/healthz', { kind: 'health', probe: 'healthz' })
    const { auth, legacySse } = config.core
    const hasMetadata = auth.enabled && auth.jwt.issuer !== null
    if (hasMetadata) this.#fixed.set(METADATA_PATH, { kind: 'metadata', serverIndex: ALL_SERVERS })
    for (const [serverIndex, server] of config.servers.entries()) {
      this.#serverIndexById.set(server.id, serverIndex)
      this.#fixed.set(server.mountPath, { kind: 'mcp', serverIndex })
      // Many clients add the slash; it names the same endpoint.
      this.#fixed.set(`${server.mountPath}/`, { kind: 'mcp', serverIndex })
      if (legacySse.enabled) {
        this.#fixed.set(`${server.mountPath}/sse`, { kind: 'sse', serverIndex })
        this.#fixed.set(`${server.mountPath}/messages`, { kind: 'messages', serverIndex })
      }
      if (hasMetadata)
        this.#fixed.set(`${METADATA_PATH}${server.mountPath}`, { kind: 'metadata', serverIndex })
      this.#fixed.set(`${this.#uploadPrefix}${server.id}`, { kind: 'upload', serverIndex })
    }
  }

  match(path: string): Route {
    const fixed = this.#fixed.get(path)
    if (fixed !== undefined) return fixed
    if (path.startsWith('/artifacts/')) {
      const [serverId = '', sessionId = ''] = path.slice('/artifacts/'.length).split('/', 2)
      return { kind: 'artifact', serverIndex: this.#serverIndexById.get(serverId) ?? -1, sessionId }
    }
    if (path.startsWith(this.#uploadPrefix)) return { kind: 'upload', serverIndex: -1 }
    return NONE
  }
}
