/** Turns what zod found into problems with a place in the file and a remedy. */

import type { z } from 'zod'

import { nearest } from './nearest.ts'
import { dottedPath, type ConfigProblem } from './problems.ts'
import type { Places } from './read-yaml.ts'
import { keysAt } from './schema-keys.ts'
import { isSecretPath, maskUrls } from './secrets.ts'
import { entryOf, isSection, valueAt, type TreePath } from './tree.ts'

type Issue = z.core.$ZodIssue

const MAX_SHOWN = 60

/** One problem per mistake; several unknown keys in one section become one problem each. */
export function explainIssue(issue: Issue, tree: unknown, places: Places): ConfigProblem[] {
  if (issue.code === 'unrecognized_keys') {
    const known = keysAt(tree, issue.path)
    return issue.keys.map((key) => {
      const path = [...issue.path, key]
      return problemAt(places, path, 'key', `is not a known field; ${suggest(key, known)}`)
    })
  }
  const value = valueAt(tree, issue.path)
  if (issue.code === 'invalid_union' && isSection(value)) {
    const ofSection = issue.errors.find((issues) => issues.every(isInside))
    if (ofSection !== undefined)
      return ofSection.flatMap((inner) =>
        explainIssue({ ...inner, path: [...issue.path, ...inner.path] }, tree, places),
      )
  }
  if (value === undefined) return [problemAt(places, issue.path, 'key', missing(issue))]
  if (value === null) return [problemAt(places, issue.path, 'key', unexpectedNull(issue))]
  const message = describe(issue, value) + found(places, issue.path)
  return [problemAt(places, issue.path, 'value', message)]
}

/** True for an issue of what a section holds, not of its being a section. */
function isInside(issue: Issue): boolean {
  return issue.path.length > 0 || issue.code === 'unrecognized_keys'
}

/** A problem at a field's key or value. */
export function problemAt(
  places: Places,
  path: TreePath,
  part: 'key' | 'value',
  message: string,
): ConfigProblem {
  return { path: dottedPath(path), ...places.locate(path, part), message }
}

function describe(issue: Issue, value: unknown): string {
  if (issue.code === 'invalid_type') return `must be ${kind(issue.expected)}`
  if (issue.code === 'invalid_value') return oneOf(issue.values.map(String), value)
  if (issue.code === 'invalid_union') {
    const words = discriminatorWords(issue)
    if (words.length > 0) return oneOf(words, value)
    const kinds = issue.errors.map(([first]) =>
      first?.code === 'invalid_type' ? first : undefined,
    )
    // What is not told by its type is a truth value, which takes several.
    return `must be ${kinds.map((one) => (one === undefined ? 'true, false' : kind(one.expected))).join(' or ')}`
  }
  if (issue.code === 'invalid_key')
    return `is a key that ${issue.issues[0]?.message ?? 'is not allowed here'}`
  if (issue.code === 'too_big') return `must be at most ${issue.maximum}`
  if (issue.code === 'too_small') {
    if (issue.origin === 'string') return 'must not be blank'
    if (issue.origin === 'array') return `must have at least ${issue.minimum} entry`
    return `must be at least ${issue.minimum}`
  }
  return issue.message
}

function missing(issue: Issue): string {
  if (issue.code === 'invalid_type') return `is required and must be ${kind(issue.expected)}`
  if (issue.code === 'invalid_union')
    return `is required and must be one of ${discriminatorWords(issue).join(', ')}`
  return 'is required'
}

function unexpectedNull(issue: Issue): string {
  const wanted = issue.code === 'invalid_type' ? issue.expected : ''
  if (wanted === 'object') return 'is a section without content; give it fields or remove the line'
  if (wanted === 'array') return 'is empty (null); give it entries, write [], or remove the line'
  return 'is empty (null), which this field does not allow; give it a value or remove the line'
}

function discriminatorWords(issue: Issue): string[] {
  // The list of allowed words is on the issue at run time, but not in its published type.
  const words = entryOf(issue, 'options')
  return Array.isArray(words) ? words.map(String) : []
}

function kind(expected: string): string {
  switch (expected) {
    case 'string':
      return 'text (put numbers and words like yes in quotes)'
    case 'array':
      return 'a list'
    case 'object':
    case 'record':
      return 'a section (keys with values)'
    case 'number':
    case 'int':
      return 'a whole number'
    case 'boolean':
      return 'true or false'
    default:
      return expected
  }
}

/** What the operator wrote, before variables were filled in, so that no secret shows. */
function found(places: Places, path: TreePath): string {
  const written = places.written(path)
  if (written === undefined || written.includes('\n') || isSecretPath(path)) return ''
  const shown = maskUrls(written)
  return `; found ${shown.length > MAX_SHOWN ? `${shown.slice(0, MAX_SHOWN)}…` : shown}`
}

function suggest(key: string, known: readonly string[]): string {
  const guess = nearest(key, known)
  return guess === undefined
    ? `known here: ${known.toSorted().join(', ')}`
    : `did you mean ${guess}?`
}

function oneOf(words: readonly string[], value: unknown): string {
  const guess = typeof value === 'string' ? nearest(value, words) : undefined
  return `must be one of ${words.join(', ')}${guess === undefined ? '' : ` (did you mean ${guess}?)`}`
}
