/** The tools of the upstream as a client would see them without code mode: all pages of `tools/list`, asked for on the client's behalf. */
import type { JsonObject } from '../../shared/state/records.ts'
import { isObject } from '../exchange/json-rpc.ts'
import type { InnerAnswer } from './inner-exchange.ts'
import type { InnerRequests } from './inner-requests.ts'
import { nameOf } from './tool-listing.ts'

/** An upstream whose list does not end is not read on. */
const MAX_PAGES = 100
const MAX_TOOLS = 10_000

/** What was found, or the answer that stands in the way. */
export type Catalogue =
  | { readonly kind: 'tools'; readonly tools: readonly JsonObject[] }
  | { readonly kind: 'failed'; readonly answer: InnerAnswer }

export async function readCatalogue(inner: InnerRequests, maxBytes: number): Promise<Catalogue> {
  const tools: JsonObject[] = []
  const seen = new Set<unknown>()
  let cursor: unknown
  for (let page = 0; page < MAX_PAGES && tools.length < MAX_TOOLS; page++) {
    const params = cursor === undefined ? {} : { cursor }
    const answer = await inner.ask('tools/list', params, { maxBytes })
    const result = answer.kind === 'response' ? answer.message['result'] : undefined
    if (!isObject(result)) return { kind: 'failed', answer }
    const listed = Array.isArray(result['tools']) ? result['tools'].filter(isObject) : []
    tools.push(...listed.filter((tool) => nameOf(tool) !== undefined))
    cursor = result['nextCursor']
    if (typeof cursor !== 'string' || seen.has(cursor)) break
    seen.add(cursor)
  }
  return { kind: 'tools', tools: tools.slice(0, MAX_TOOLS) }
}
