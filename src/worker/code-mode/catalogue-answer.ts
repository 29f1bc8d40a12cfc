/** The answers of `search` and `get_schema`, made from the tools of the upstream. */
import type { JsonObject } from '../../shared/state/records.ts'
import { toolError } from '../adapters/adapter.ts'
import { DETAILS, SEARCH_LIMIT } from './code-tools.ts'
import type { Detail } from './code-tools.ts'
import { describeTools, nameOf, tagsOf } from './tool-listing.ts'
import { searchTools } from './tool-search.ts'

/** Arguments that are no sensible question; the message is for the model. */
class BadArgument extends Error {}

/** The result of `search` or `get_schema`. */
export function answerFromCatalogue(
  kind: 'search' | 'get_schema' | undefined,
  args: JsonObject,
  tools: readonly JsonObject[],
): JsonObject {
  try {
    return kind === 'get_schema' ? schemas(args, tools) : search(args, tools)
  } catch (error) {
    if (error instanceof BadArgument) return toolError(error.message)
    throw error
  }
}

function search(args: JsonObject, tools: readonly JsonObject[]): JsonObject {
  const { query = '', tags, limit } = args
  const detail = detailOf(args, 'brief')
  if (typeof query !== 'string') throw new BadArgument('query must be text')
  const wanted = tags === undefined || tags === null ? [] : textsOf(tags, 'tags')
  const tagged =
    wanted.length === 0
      ? tools
      : tools.filter((tool) => tagsOf(tool).some((tag) => wanted.includes(tag)))
  const isQuery = query.trim() !== ''
  const found = isQuery ? searchTools(tagged, query) : tagged
  const shown = found.slice(0, limitOf(limit) ?? (isQuery ? SEARCH_LIMIT : found.length))
  if (shown.length === 0)
    return text(`No tool of ${tools.length} fits. Try other words, or no query to list them all.`)
  const count = `${shown.length} of ${found.length} tools that fit (${tools.length} in all):`
  return text(
    detail === 'full'
      ? describeTools(shown, detail)
      : `${count}\n\n${describeTools(shown, detail)}`,
  )
}

function schemas(args: JsonObject, tools: readonly JsonObject[]): JsonObject {
  const detail = detailOf(args, 'detailed')
  const names = [...new Set(textsOf(args['tools'], 'tools'))]
  if (names.length === 0) throw new BadArgument('tools must name at least one tool')
  const byName = new Map(tools.map((tool) => [nameOf(tool), tool]))
  const found = names.map((name) => byName.get(name)).filter((tool) => tool !== undefined)
  const missing = names.filter((name) => !byName.has(name))
  const note = missing.length === 0 ? '' : `There is no tool ${missing.join(', ')}.`
  if (found.length === 0) throw new BadArgument(note)
  return text([describeTools(found, detail), note].filter((part) => part !== '').join('\n\n'))
}

function detailOf({ detail }: JsonObject, byDefault: Detail): Detail {
  if (detail === undefined || detail === null) return byDefault
  const found = DETAILS.find((one) => one === detail)
  if (found === undefined) throw new BadArgument(`detail must be one of ${DETAILS.join(', ')}`)
  return found
}

function limitOf(limit: unknown): number | undefined {
  if (limit === undefined || limit === null) return undefined
  if (typeof limit !== 'number' || !Number.isInteger(limit) || limit < 1)
    throw new BadArgument('limit must be a whole number of at least 1')
  return limit
}

function textsOf(value: unknown, name: string): readonly string[] {
  if (Array.isArray(value) && value.every((one) => typeof one === 'string')) return value
  throw new BadArgument(`${name} must be a list of texts`)
}

function text(line: string): JsonObject {
  return { content: [{ type: 'text', text: line }] }
}
