/** Finds what may be file paths in the text of a tool's result. Pure: whether a file is there, and may be read, is decided elsewhere. */
import { fileURLToPath } from 'node:url'

import type { LinearPattern } from '../../shared/config/patterns.ts'

/** Text is scanned up to here, so that a huge result can't hold up the thread. In characters. */
const MAX_SCANNED = 256 * 1024
const MAX_CANDIDATES = 100
const MAX_PATH = 4096

/** Addresses that only look like paths. All quantifiers are bounded: the text comes from elsewhere. */
const ADDRESSES = /\b(?:(?!file:)[a-z][a-z0-9+.-]{0,30}:\/\/|data:)[^\s"'`<>()[\]]+/giu

/** Places that delimit a path on both sides: it may contain blanks. */
const DELIMITED = [
  /`([^`\n]{1,1024})`/gu,
  /"([^"\n]{1,1024})"/gu,
  /'([^'\n]{1,1024})'/gu,
  /<([^<>\n]{1,1024})>/gu,
]

/** Places where a path ends with the blank or the line. */
const OPEN = [
  /(file:\/\/[^\s"'`<>]{1,2048})/giu,
  // The rest of the line first: `Saved to: /data/out/my page.png`.
  /(?:^|[\s:=])(\/[^\s/][^\n"'`<>|]{0,1024})/gmu,
  /(?:^|[\s:=("'`[<])(\/[^\s/"'`<>|][^\s"'`<>|]{0,1024})/gmu,
  /(?:^|[\s:=("'`[<])((?:[^\s"'`<>|:=/]{1,255}\/){1,32}[^\s"'`<>|:=/]{1,255})/gmu,
]

/** What looks like a path or a file name: has a separator or an extension. */
const PATH_LIKE = /[/\\]|\.[A-Za-z0-9]{1,10}$/
/** What may stand around a path in prose, blanks aside. */
const BEFORE = '"\'`<([{*'
const AFTER = '"\'`>)]}*.,;:!?'

/** A link's target is no longer than this, its title included. */
const MAX_TARGET = 1024
/** A title after a link's target: `(page.png "Page")`. */
const TITLE = /[ \t]"[^"]{0,200}"$/

/** Paths that the text may name, likeliest first: links, then quoted ones, then bare ones. Never parts of http(s) or other addresses. */
export function pathsInText(text: string): readonly string[] {
  const masked = text.slice(0, MAX_SCANNED).replace(ADDRESSES, '\n')
  const found = new Set<string>()
  for (const target of linkTargets(masked)) {
    if (found.size >= MAX_CANDIDATES) break
    if (PATH_LIKE.test(target)) add(found, target)
  }
  for (const pattern of DELIMITED) collect(masked, pattern, found, true)
  for (const pattern of OPEN) collect(masked, pattern, found, false)
  return [...found]
}

/** Matches of configured patterns in order: group 1 where a pattern has groups, else the whole match. */
export function pathsByPatterns(
  text: string,
  patterns: readonly LinearPattern[],
): readonly string[] {
  const scanned = text.slice(0, MAX_SCANNED)
  const found = new Set<string>()
  for (const pattern of patterns) {
    for (const match of pattern.find(scanned)) {
      add(found, match)
      if (found.size >= MAX_CANDIDATES) return [...found]
    }
  }
  return [...found]
}

/** The spellings of one path that a tool named, as file system paths: as is, without stray punctuation, decoded, from a `file://` URI. */
export function spellings(named: string): readonly string[] {
  const all = new Set<string>()
  // First of all: a tool can name anything, of any length.
  if (named.length > MAX_PATH) return []
  for (const text of [named, withoutEdges(named)]) {
    if (text === '' || text.includes('\0')) continue
    if (/^file:/i.test(text)) {
      addDecoded(all, () => fileURLToPath(text))
    } else {
      all.add(text)
      if (text.includes('%')) addDecoded(all, () => decodeURIComponent(text))
    }
  }
  return [...all]
}

/**
 * Targets of markdown links; one level of parentheses in them is common: `[x](page (1).png)`. By hand, because each character is looked at once:
 * a target ends at the next link's beginning at the latest.
 */
function* linkTargets(text: string): Generator<string> {
  let start = text.indexOf('](')
  while (start >= 0) {
    const from = start + 2
    const next = text.indexOf('](', from)
    const limit = Math.min(next < 0 ? text.length : next, from + MAX_TARGET)
    const end = endOfTarget(text, from, limit)
    if (end !== undefined) yield bareTarget(text.slice(from, end))
    start = next
  }
}

/** Where the parenthesis is that closes a target; undefined when there is none on the same line before `limit`. */
function endOfTarget(text: string, from: number, limit: number): number | undefined {
  let depth = 0
  for (let index = from; index < limit; index++) {
    const character = text[index]
    if (character === '\n') return undefined
    if (character === '(' && ++depth > 1) return undefined
    if (character === ')' && depth-- === 0) return index
  }
  return undefined
}

/** A target without its title and its angle brackets. */
function bareTarget(target: string): string {
  const path = target.trim().replace(TITLE, '').trim()
  return path.startsWith('<') && path.endsWith('>') ? path.slice(1, -1) : path
}

/** By index, because an expression that is anchored at the end looks at each run of punctuation once per character of it. */
function withoutEdges(text: string): string {
  let start = 0
  let end = text.length
  while (start < end && isEdge(text[start], BEFORE)) start++
  while (end > start && isEdge(text[end - 1], AFTER)) end--
  return text.slice(start, end)
}

function isEdge(character: string | undefined, edges: string): boolean {
  return character !== undefined && (edges.includes(character) || character.trim() === '')
}

function collect(text: string, pattern: RegExp, found: Set<string>, mustLookLikePath: boolean) {
  for (const match of text.matchAll(pattern)) {
    if (found.size >= MAX_CANDIDATES) return
    const path = match[1]?.trim()
    if (path !== undefined && (!mustLookLikePath || PATH_LIKE.test(path))) add(found, path)
  }
}

function add(found: Set<string>, path: string | undefined): void {
  if (path !== undefined && path.trim() !== '') found.add(path)
}

function addDecoded(all: Set<string>, decode: () => string): void {
  try {
    const path = decode()
    if (!path.includes('\0')) all.add(path)
  } catch {
    // Not decodable: the other spellings remain.
  }
}
