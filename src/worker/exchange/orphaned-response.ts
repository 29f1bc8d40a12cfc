/**
 * Responses that come on a resumed stream while the rewrite that waited for them is gone with the replica that had the call. Which call a response
 * belongs to is not known any more: it is told by what it says.
 */
import type { AdapterServices } from '../adapters/adapter.ts'
import { withFailure } from '../adapters/artifact-result.ts'
import type { ServerConfig } from '../../shared/config/config.ts'
import type { SessionKey } from '../../shared/state/records.ts'
import type { PendingRewrite } from '../session/session.ts'
import { isObject } from './json-rpc.ts'

const LOST_FILE =
  'The tool ran, but its file was not kept, because the replica of this gateway that waited for it is gone. Call the tool again.'

/** What a response is judged with. */
export interface OrphanContext {
  readonly server: ServerConfig
  readonly services: AdapterServices
  readonly key: SessionKey
  /** What is done with lists of tools; undefined when nothing is. */
  readonly list: PendingRewrite | undefined
}

/**
 * Does with a list of tools what is done with every one, and says of a result that names a place for artifacts that no artifact came of it: the path in it is
 * of no use to the client. Every other response stays the object that it was. Undefined when nothing here can need that.
 */
export function orphanRewrite(context: OrphanContext): PendingRewrite | undefined {
  const { server, services, key, list } = context
  if (list === undefined && server.adapters.length === 0) return undefined
  const place = JSON.stringify(`${services.files.sessionDir(key)}/artifacts/`).slice(1, -1)
  return {
    rewrite: async (response) => {
      const { result } = response
      if (!isObject(result)) return response
      if (Array.isArray(result['tools'])) return list?.rewrite(response) ?? response
      const isLost = Array.isArray(result['content']) && JSON.stringify(result).includes(place)
      return isLost ? { ...response, result: withFailure(result, LOST_FILE) } : response
    },
    abandon: () => {},
  }
}
