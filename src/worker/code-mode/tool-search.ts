/**
 * Finds tools by words (BM25) in what they are called, what they say of themselves and what their arguments are called. The texts are read for each
 * question: an index would be made for one question only, since catalogues can change with every answer, and costs many times as much.
 */
import type { JsonObject } from '../../shared/state/records.ts'
import { isObject } from '../exchange/json-rpc.ts'
import { nameOf, tagsOf } from './tool-listing.ts'

/** No more is read of one tool, and of all of them together, in characters: the upstream wrote it, and this event loop reads it. */
const MAX_TEXT = 2_000
const MAX_ALL_TEXT = 1_000_000
const MIN_TEXT = 60
const MAX_TERMS = 16
const MAX_QUERY = 500
/** What a word counts, by where it stands. */
const NAME_WEIGHT = 3
const TAG_WEIGHT = 2
/** What a word counts that begins like the one that is looked for, or the other way round (`file`, `files`). */
const BEGINNING = 0.5
const MIN_BEGINNING = 3
/** The usual constants of BM25: how soon repetition stops to count, and how much length does. */
const SATURATION = 1.2
const LENGTH_SHARE = 0.75

/** One tool as the ranking sees it: how often each term is in it, and how long it is. */
interface Counted {
  readonly tool: JsonObject
  readonly counts: readonly number[]
  readonly length: number
}

/** The tools that have any of the words, best first; in the order of the catalogue where they are as good. */
export function searchTools(tools: readonly JsonObject[], query: string): readonly JsonObject[] {
  const terms = [...new Set(wordsOf(query.slice(0, MAX_QUERY)))].slice(0, MAX_TERMS)
  const room = Math.max(MIN_TEXT, Math.min(MAX_TEXT, Math.floor(MAX_ALL_TEXT / tools.length)))
  const counted = tools.map((tool) => countIn(tool, terms, room))
  const averageLength = counted.reduce((sum, { length }) => sum + length, 1) / counted.length
  const rarities = terms.map((_, term) => {
    const having = counted.filter(({ counts }) => (counts[term] ?? 0) > 0).length
    return Math.log(1 + (tools.length - having + 0.5) / (having + 0.5))
  })
  const scored = counted.map(({ tool, counts, length }) => {
    const long = SATURATION * (1 - LENGTH_SHARE + (LENGTH_SHARE * length) / averageLength)
    const score = counts.reduce(
      (sum, count, term) =>
        sum + ((rarities[term] ?? 0) * count * (SATURATION + 1)) / (count + long),
      0,
    )
    return { tool, score }
  })
  return scored
    .filter(({ score }) => score > 0)
    .toSorted((a, b) => b.score - a.score)
    .map(({ tool }) => tool)
}

function countIn(tool: JsonObject, terms: readonly string[], room: number): Counted {
  const counts = terms.map(() => 0)
  let length = 0
  const read = (text: string, weight: number): void => {
    for (const word of wordsOf(text.slice(0, room))) {
      length++
      for (const [index, term] of terms.entries())
        counts[index] = (counts[index] ?? 0) + weight * likeness(word, term)
    }
  }
  read(nameOf(tool) ?? '', NAME_WEIGHT)
  read(tagsOf(tool).join(' '), TAG_WEIGHT)
  read(`${textOf(tool['title'])} ${textOf(tool['description'])}`, 1)
  read(argumentsOf(tool), 1)
  return { tool, counts, length }
}

function likeness(word: string, term: string): number {
  if (word === term) return 1
  const shorter = Math.min(word.length, term.length)
  if (shorter < MIN_BEGINNING) return 0
  return word.startsWith(term) || term.startsWith(word) ? BEGINNING : 0
}

/** Names come as `read_file`, `read-file` and `readFile`. */
function wordsOf(text: string): readonly string[] {
  const words = text.replaceAll(/(\p{Ll})(\p{Lu})/gu, '$1 $2').toLowerCase()
  return words.match(/[\p{L}\p{N}]+/gu) ?? []
}

function argumentsOf(tool: JsonObject): string {
  const schema = tool['inputSchema']
  const properties = isObject(schema) ? schema['properties'] : undefined
  return isObject(properties) ? Object.keys(properties).join(' ') : ''
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
