/** Upstreams that have the directory of a session for their only root, whatever roots its client has (`upstream.session_root`). */
import type { ServerConfig } from '../../shared/config/config.ts'
import type { JsonObject } from '../../shared/state/records.ts'

/** Whether this server's upstream is one. */
export function isRooted(server: ServerConfig): boolean {
  return server.upstream.sessionRoot.enabled
}

/** `initialize` params that say that the client has roots, and nothing of its own ones: of those the upstream never hears. Others stay as they are. */
export function withRoots(server: ServerConfig, params: JsonObject): JsonObject {
  const { capabilities } = params
  if (!isRooted(server)) return params
  // Whatever else it is, the upstream may say so.
  if (typeof capabilities !== 'object' || capabilities === null || Array.isArray(capabilities))
    return params
  return { ...params, capabilities: { ...capabilities, roots: {} } }
}
