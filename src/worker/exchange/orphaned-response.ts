/**
 * Responses that come on a resumed stream while the rewrite that waited for them is gone with the replica that had the call. Which call a response
 * belongs to is not known any more: it is told by what it says.
 */
import type { AdapterServices } from '../adapters/adapter.ts'
import { withFailure } from '../adapters/artifact-result.ts'
import { shapeToolList } from '../catalogue/shape.ts'
import type { ServerConfig } from '../../shared/config/config.ts'
import type { JsonObject, SessionKey } from '../../shared/state/records.ts'
import type { PendingRewrite } from '../session/session.ts'
import { isObject } from './json-rpc.ts'

const LOST_FILE =
  'The tool ran, but its file was not kept, because the replica of this gateway that waited for it is gone. Call the tool again.'

/** What a response is judged with. */
export interface OrphanContext {
  readonly server: ServerConfig
  readonly services: AdapterServices
  readonly key: SessionKey
  /** Whether lists of tools are changed for clients. */
  readonly shapesTools: boolean
}

/**
 * Hides in a list of tools what is to be hidden, and says of a result that names a place for artifacts that no artifact came of it: the path in it is
 * of no use to the client. Every other response stays the object that it was. Undefined when nothing here can need that.
 */
export function orphanRewrite(context: OrphanContext): PendingRewrite | undefined {
  const { server, services, key, shapesTools } = context
  if (!shapesTools && server.adapters.length === 0) return undefined
  const place = JSON.stringify(`${services.files.sessionDir(key)}/artifacts/`).slice(1, -1)
  const judge = (result: JsonObject): JsonObject => {
    if (shapesTools && Array.isArray(result['tools'])) {
      const options = { addHelper: result['nextCursor'] === undefined }
      return shapeToolList(result, server, services.config, options)
    }
    const isLost = Array.isArray(result['content']) && JSON.stringify(result).includes(place)
    return isLost ? withFailure(result, LOST_FILE) : result
  }
  return {
    rewrite: (response) => {
      const { result } = response
      if (!isObject(result)) return Promise.resolve(response)
      const judged = judge(result)
      return Promise.resolve(judged === result ? response : { ...response, result: judged })
    },
    abandon: () => {},
  }
}
