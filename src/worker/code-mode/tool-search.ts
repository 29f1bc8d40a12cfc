/** Finds tools by words (BM25), in what they are called, what they say of themselves and what their arguments are called. */
import type { JsonObject } from '../../shared/state/records.ts'
import { isObject } from '../exchange/json-rpc.ts'
import { nameOf, tagsOf } from './tool-listing.ts'

/** More of a description is not looked at, in characters, and more words of a query neither. */
const MAX_TEXT = 2_000
const MAX_QUERY = 500

/** The tools that fit the query, best first. The index is made for the question: catalogues are small, and change. */
export async function searchTools(
  tools: readonly JsonObject[],
  query: string,
): Promise<readonly JsonObject[]> {
  const { default: MiniSearch } = await import('minisearch')
  const index = new MiniSearch({
    fields: ['name', 'description', 'arguments', 'tags'],
    tokenize: wordsOf,
    searchOptions: { boost: { name: 3, tags: 2 }, prefix: true, fuzzy: 0.15, tokenize: wordsOf },
  })
  index.addAll(
    tools.map((tool, id) => ({
      id,
      name: nameOf(tool) ?? '',
      description: textOf(tool['title']) + ' ' + textOf(tool['description']),
      arguments: argumentsOf(tool),
      tags: tagsOf(tool).join(' '),
    })),
  )
  const found = index.search(query.slice(0, MAX_QUERY))
  return found.map(({ id }) => tools[Number(id)]).filter((tool) => tool !== undefined)
}

/** Names come as `read_file`, `read-file` and `readFile`. */
function wordsOf(text: string): string[] {
  return text
    .replaceAll(/(\p{Ll})(\p{Lu})/gu, '$1 $2')
    .split(/[^\p{L}\p{N}]+/u)
    .filter((word) => word !== '')
}

function argumentsOf(tool: JsonObject): string {
  const schema = tool['inputSchema']
  const properties = isObject(schema) ? schema['properties'] : undefined
  return isObject(properties) ? Object.keys(properties).join(' ').slice(0, MAX_TEXT) : ''
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value.slice(0, MAX_TEXT) : ''
}
