/** Finds the file that a tool made, in the way that the adapter's `output_locator` says. */
import type { ArtifactProducerConfig } from '../../shared/config/config.ts'
import { LinearPattern } from '../../shared/config/patterns.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import { isJsonObject, valuesAt } from './dot-path.ts'
import { pathsByPatterns, pathsInText, spellings } from './path-candidates.ts'
import type { OpenSource, SourceArea } from './source-area.ts'

/** More files than this are not kept of one result. */
export const MAX_ARTIFACTS_PER_CALL = 32
const MAX_VISITED = 10_000
const MAX_STRINGS = 100

const compiled = new WeakMap<ArtifactProducerConfig, readonly LinearPattern[]>()

/** What a result named and what of it may be read. The caller closes all sources. */
export interface Located {
  readonly sources: readonly OpenSource[]
  /** Files that the configured field named but that are missing or not allowed. */
  readonly refused: number
}

/**
 * Opens the files that a result names: with mode `structured` all that the configured field lists, with `regex` the first of the text's paths that
 * can be read. Other modes name none.
 */
export async function locateNamedFiles(
  adapter: ArtifactProducerConfig,
  result: JsonObject,
  area: SourceArea,
): Promise<Located> {
  switch (adapter.outputLocator.mode) {
    case 'structured':
      return structured(adapter, result, area)
    case 'regex': {
      const text = textOf(result)
      const patterns = patternsOf(adapter)
      const named = patterns.length > 0 ? pathsByPatterns(text, patterns) : pathsInText(text)
      return firstOf(named, area)
    }
    case 'embedded':
    case 'directory':
    case 'none':
      break
  }
  return { sources: [], refused: 0 }
}

async function structured(
  adapter: ArtifactProducerConfig,
  result: JsonObject,
  area: SourceArea,
): Promise<Located> {
  const content = result['structuredContent']
  const key = adapter.outputLocator.outputPathKey?.trim() ?? ''
  if (key === '') return firstOf(stringsWithSlash(content), area)
  const named = valuesAt(content, key).flat().filter(isString)
  const wanted = [...new Set(named)].slice(0, MAX_ARTIFACTS_PER_CALL)
  const opened = await Promise.all(wanted.map((name) => firstReadable(pathsFor(name, area), area)))
  const sources = opened.filter((source) => source !== undefined)
  return { sources, refused: wanted.length - sources.length }
}

/** The first that can be read. The caller's own uploads come last: text that names a tool's input and its output means the output. */
async function firstOf(named: readonly string[], area: SourceArea): Promise<Located> {
  const paths = [...new Set(named.flatMap((name) => pathsFor(name, area)))]
  const made = paths.filter((path) => !area.isOwnUpload(path))
  const sent = paths.filter((path) => area.isOwnUpload(path))
  const source = await firstReadable([...made, ...sent], area)
  return { sources: source === undefined ? [] : [source], refused: 0 }
}

async function firstReadable(
  paths: readonly string[],
  area: SourceArea,
): Promise<OpenSource | undefined> {
  for (const path of paths) {
    // oxlint-disable-next-line no-await-in-loop -- a later one matters only when this one is none
    const source = await area.open(path)
    if (source !== undefined) return source
  }
  return undefined
}

function pathsFor(named: string, area: SourceArea): readonly string[] {
  return spellings(named).flatMap((spelling) => area.resolve(spelling))
}

/** The configured patterns, compiled once. */
export function patternsOf(adapter: ArtifactProducerConfig): readonly LinearPattern[] {
  let patterns = compiled.get(adapter)
  if (patterns === undefined) {
    patterns = adapter.outputLocator.outputPathRegexes.map((source) => new LinearPattern(source))
    compiled.set(adapter, patterns)
  }
  return patterns
}

/** Text blocks, and links to files, one a line. */
export function textOf(result: JsonObject): string {
  const content = result['content']
  if (!Array.isArray(content)) return ''
  const lines: string[] = []
  for (const block of content) {
    if (!isJsonObject(block)) continue
    const { type, text, uri } = block
    if (type === 'text' && isString(text)) lines.push(text)
    if (type === 'resource_link' && isString(uri) && uri.startsWith('file:')) lines.push(uri)
  }
  return lines.join('\n')
}

/** Strings anywhere in structured content that could be paths, in the order they stand there. */
function stringsWithSlash(content: unknown): readonly string[] {
  const found: string[] = []
  const stack: unknown[] = [content]
  for (let visited = 0; visited < MAX_VISITED && found.length < MAX_STRINGS; visited++) {
    if (stack.length === 0) break
    const value = stack.pop()
    if (isString(value)) {
      if (value.includes('/')) found.push(value)
    } else if (typeof value === 'object' && value !== null) {
      // Only what can still be visited: a huge list must not be copied whole.
      stack.push(...Object.values(value).slice(0, MAX_VISITED).toReversed())
    }
  }
  return found
}

function isString(value: unknown): value is string {
  return typeof value === 'string'
}
