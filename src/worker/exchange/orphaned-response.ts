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
import { hasMethod, isObject } from './json-rpc.ts'
import { messageOf } from './sse.ts'

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
      if (Array.isArray(result['tools'])) return list?.rewrite(response) ?? response
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

/** Whether an event is no answer with tools. Most need no parsing to tell: the word is not in them, nor an escape that may hide it. */
export function isNoToolList(event: Uint8Array): boolean {
  const bytes = Buffer.from(event.buffer, event.byteOffset, event.byteLength)
  if (!bytes.includes('tools') && !bytes.includes(String.raw`\u`)) return true
  try {
    const message = messageOf(event)
    return message === undefined || hasMethod(message) || !holdsTools(message)
  } catch {
    // Whoever reads it says what is wrong.
    return false
  }
}

function holdsTools({ result }: JsonObject): boolean {
  return isObject(result) && Array.isArray(result['tools'])
}
