/**
 * Responses that come on a resumed stream while the rewrite that waited for them is gone with the replica that had the call. Which call a response
 * belongs to is not known any more: it is told by what it says.
 */
import type { AdapterServices } from '../adapters/adapter.ts'
import { withFailure } from '../adapters/artifact-result.ts'
import { asUpstreamSees } from '../adapters/session-root.ts'
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
  const directory = asUpstreamSees(services.files, server, services.files.sessionDir(key))
  const place = JSON.stringify(`${directory}/artifacts/`).slice(1, -1)
  return {
    rewrite: async (response) => {
      const { result } = response
      if (!isObject(result)) return response
      if (holdsTools(response)) return list?.rewrite(response) ?? response
      const isLost = Array.isArray(result['content']) && JSON.stringify(result).includes(place)
      return isLost ? { ...response, result: withFailure(result, LOST_FILE) } : response
    },
    abandon: () => {},
  }
}

/**
 * For responses on a stream that is for requests and notifications only. Clients find by its id whom a response is for, wherever it comes from: a list of
 * tools must not get to them unseen this way. Undefined when nothing is done with lists.
 */
export function strayRewrite(list: PendingRewrite | undefined): PendingRewrite | undefined {
  if (list === undefined) return undefined
  return {
    rewrite: (response) =>
      holdsTools(response) ? list.rewrite(response) : Promise.resolve(response),
    abandon: () => {},
  }
}

/** Some clients don't tell capitals from small letters. */
function holdsTools(message: JsonObject): boolean {
  return membersLike(message, 'result').some(
    (result) => isObject(result) && membersLike(result, 'tools').some(Array.isArray),
  )
}

function membersLike(object: JsonObject, name: string): unknown[] {
  return Object.keys(object)
    .filter((key) => key.toUpperCase() === name.toUpperCase())
    .map((key) => object[key])
}
