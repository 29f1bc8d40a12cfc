/** Reads the YAML file into a plain tree, fills in environment variables, and remembers where every value stood. */

import {
  isAlias,
  isMap,
  isScalar,
  isNode,
  isSeq,
  LineCounter,
  parseDocument,
  type Document,
  type YAMLMap,
  type YAMLParseError,
} from 'yaml'

import { interpolate, type Environment } from './interpolate.ts'
import { ConfigError, dottedPath, type ConfigProblem } from './problems.ts'
import { isSection, type TreePath } from './tree.ts'

/** Where a field stands in the file. */
interface Place {
  /** Offset of the key, or of the list entry. */
  readonly key: number
  /** Offset of the value. */
  readonly value: number
  /** The value as it is written, for scalars: before variables are filled in. */
  readonly written: string | undefined
}

/** Finds fields of the file by path. */
export interface Places {
  /** Line and column of a field's key or value, or of the nearest field around it. */
  locate(path: TreePath, part: 'key' | 'value'): { line: number | null; column: number | null }
  /** The scalar as the operator wrote it, undefined for anything else. */
  written(path: TreePath): string | undefined
}

/** The file as a plain tree. */
export interface YamlTree {
  readonly tree: unknown
  readonly places: Places
}

/** Deeper than any field of ours; ends aliases that contain themselves. */
const MAX_DEPTH = 32
/** More than any real file has; ends aliases that multiply. */
const MAX_NODES = 100_000

/** Parses and interpolates; throws `ConfigError` for bad YAML, duplicate keys and unset variables. */
export function readYaml(text: string, env: Environment, file: string): YamlTree {
  const lines = new LineCounter()
  const document = parse(text, lines, file)
  const reader = new TreeReader(document, text, lines, env)
  const tree = reader.read()
  if (reader.problems.length > 0) throw new ConfigError(file, reader.problems)
  return { tree, places: reader }
}

function parse(text: string, lines: LineCounter, file: string): Document {
  let document
  try {
    // Pretty errors quote the file, secrets included.
    document = parseDocument(text, { lineCounter: lines, prettyErrors: false, stringKeys: false })
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new ConfigError(file, [
      { path: '', line: null, column: null, message: `can't be read as YAML: ${reason}` },
    ])
  }
  const problems = [...untilLost(document.errors), ...document.warnings].map(
    ({ code, message, pos }) => {
      const { line, col } = lines.linePos(pos[0])
      return { path: '', line, column: col, message: explainYaml(code, message) }
    },
  )
  if (problems.length > 0) throw new ConfigError(file, problems)
  return document
}

/** Behind a token that fits nowhere the parser finds more and more of them, and at wrong places: they tell nothing. */
function untilLost(errors: readonly YAMLParseError[]): readonly YAMLParseError[] {
  const lostAt = errors.findIndex(({ code }) => code === 'UNEXPECTED_TOKEN')
  return lostAt === -1 ? errors : errors.slice(0, lostAt + 1)
}

function explainYaml(code: string, message: string): string {
  switch (code) {
    case 'DUPLICATE_KEY':
      return 'this key is given twice in the same section; keep one of them'
    case 'MULTIPLE_DOCS':
      return 'a second document begins here; the configuration is one YAML document'
    case 'TAB_AS_INDENT':
      return 'a tab is used as indentation; use blanks'
    case 'TAG_RESOLVE_FAILED':
      return 'is not valid YAML: Unresolved tag; a value that begins with ! needs quotes'
    case 'BAD_DQ_ESCAPE':
      return 'is not valid YAML: an escape sequence that is not known'
    case 'BAD_DIRECTIVE':
      return 'is not valid YAML: a directive that is not known'
    default:
      // What comes after a colon quotes the file, which may be a secret.
      return `is not valid YAML: ${message.split(': ', 1)[0] ?? ''}`
  }
}

class TreeReader implements Places {
  readonly problems: ConfigProblem[] = []
  readonly #document: Document
  readonly #text: string
  readonly #lines: LineCounter
  readonly #env: Environment
  readonly #places = new Map<string, Place>()
  #nodes = 0

  constructor(document: Document, text: string, lines: LineCounter, env: Environment) {
    this.#document = document
    this.#text = text
    this.#lines = lines
    this.#env = env
  }

  read(): unknown {
    const root = this.#document.contents
    if (root === null) return {}
    const tree = this.#value(root, [], 0)
    // A file of comments only, or one that says `null`, is an empty one.
    return tree ?? {}
  }

  locate(path: TreePath, part: 'key' | 'value'): { line: number | null; column: number | null } {
    for (let length = path.length; length >= 0; length--) {
      const place = this.#places.get(placeKey(path.slice(0, length)))
      if (place === undefined) continue
      const { line, col } = this.#lines.linePos(length === path.length ? place[part] : place.key)
      return { line, column: col }
    }
    return { line: null, column: null }
  }

  written(path: TreePath): string | undefined {
    return this.#places.get(placeKey(path))?.written
  }

  #value(node: unknown, path: TreePath, keyOffset: number): unknown {
    // A pair without anything after its key has no node.
    if (!isNode(node)) return null
    const offset = node.range?.[0] ?? keyOffset
    if (path.length > MAX_DEPTH || ++this.#nodes > MAX_NODES) {
      this.#refuse(path, offset, 'is nested too deeply or repeated too often by aliases')
      return null
    }
    const target = isAlias(node) ? node.resolve(this.#document) : node
    const written =
      isScalar(target) && target.range
        ? this.#text.slice(target.range[0], target.range[1])
        : undefined
    this.#places.set(placeKey(path), { key: keyOffset, value: offset, written })
    if (isMap(target)) return this.#map(target, path)
    if (isSeq(target)) return this.#list(target.items, path, offset)
    if (isScalar(target)) return this.#scalar(target.value, path, offset)
    this.#refuse(path, offset, 'refers to an anchor that is not there')
    return null
  }

  #scalar(value: unknown, path: TreePath, offset: number): unknown {
    if (typeof value !== 'string') return value
    const { text, missing } = interpolate(value, this.#env)
    for (const name of new Set(missing)) {
      this.#refuse(
        path,
        offset,
        `needs the environment variable ${name}, which is not set or empty; set it or give a default as \${${name}:-value}`,
      )
    }
    return text
  }

  #list(items: readonly unknown[], path: TreePath, offset: number): unknown[] {
    return items.map((item, index) =>
      this.#value(item, [...path, index], nodeStart(item) ?? offset),
    )
  }

  #map(map: YAMLMap, path: TreePath): Record<string, unknown> {
    const own: Record<string, unknown> = {}
    const merged: Record<string, unknown> = {}
    for (const { key, value } of map.items) {
      const offset = nodeStart(key) ?? 0
      const name = this.#keyName(key, path, offset)
      if (name === undefined) continue
      if (name === '<<') {
        for (const source of this.#mergeSources(value, path, offset))
          Object.assign(merged, { ...source, ...merged })
        continue
      }
      own[name] = this.#value(value, [...path, name], offset)
    }
    return { ...merged, ...own }
  }

  #mergeSources(value: unknown, path: TreePath, offset: number): Record<PropertyKey, unknown>[] {
    const sources = this.#value(value, [...path, '<<'], offset)
    const list = Array.isArray(sources) ? sources : [sources]
    if (list.every(isSection)) return list
    this.#refuse([...path, '<<'], offset, 'must refer to a section, or to a list of sections')
    return []
  }

  #keyName(key: unknown, path: TreePath, offset: number): string | undefined {
    const target = isAlias(key) ? key.resolve(this.#document) : key
    const value = isScalar(target) ? target.value : undefined
    if (typeof value === 'string' && value !== '__proto__') return value
    if (typeof value === 'number' || typeof value === 'boolean') return String(value)
    this.#refuse(path, offset, 'has a key that is not plain text')
    return undefined
  }

  #refuse(path: TreePath, offset: number, message: string): void {
    const { line, col } = this.#lines.linePos(offset)
    this.problems.push({ path: dottedPath(path), line, column: col, message })
  }
}

function nodeStart(node: unknown): number | undefined {
  return isScalar(node) || isMap(node) || isSeq(node) || isAlias(node) ? node.range?.[0] : undefined
}

function placeKey(path: TreePath): string {
  return path.map(String).join('\u0000')
}
