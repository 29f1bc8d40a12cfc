/** Tells an operator which of the fields they set have no effect yet. */

import { MAP_FIELDS } from './camel.ts'
import type { LoadedConfig } from './load.ts'
import { NOT_BUILT, type NotBuiltField } from './not-built.ts'
import { dottedPath } from './problems.ts'
import { isSection, valueAt, type TreePath } from './tree.ts'

/** Dotted paths of the fields in the operator's own file whose behaviour is not built, in the order of the file. */
export function unbuiltFields(
  loaded: Pick<LoadedConfig, 'written' | 'effective'>,
  notBuilt: readonly NotBuiltField[] = NOT_BUILT,
): string[] {
  return [...setFields(loaded.written, [])]
    .filter((path) => notBuilt.some((field) => isMissing(field, path, loaded.effective)))
    .map(dottedPath)
}

/** Every field that has a value; lists of plain values and maps of headers count as one field. */
function* setFields(node: unknown, path: TreePath): Generator<TreePath> {
  if (isSectionList(node)) {
    for (const [index, entry] of node.entries()) yield* setFields(entry, [...path, index])
  } else if (isSection(node) && !MAP_FIELDS.has(String(path.at(-1)))) {
    for (const [key, value] of Object.entries(node)) yield* setFields(value, [...path, key])
  } else if (!isInherited(node, path)) {
    yield path
  }
}

/** Null in a server means "as above", which is what leaving the field out means. */
function isInherited(node: unknown, path: TreePath): boolean {
  return node === null && path[0] === 'servers'
}

function isMissing(field: NotBuiltField, path: TreePath, effective: unknown): boolean {
  if (!matches(field.path, path)) return false
  if (field.onlyFor !== undefined && !field.onlyFor.includes(valueAt(effective, path))) return false
  if (field.unless === undefined) return true
  const other = withIndices(field.unless.path, path)
  return !field.unless.is.includes(valueAt(effective, other))
}

function matches(pattern: string, path: TreePath): boolean {
  const parts = patternParts(pattern)
  const isOpen = parts.at(-1) === '*'
  const fixed = isOpen ? parts.slice(0, -1) : parts
  if (isOpen ? path.length <= fixed.length : path.length !== fixed.length) return false
  return fixed.every((part, index) =>
    part === '[]' ? typeof path[index] === 'number' : part === path[index],
  )
}

/** The concrete path of a pattern, its indices taken from a path that shares the beginning. */
function withIndices(pattern: string, path: TreePath): TreePath {
  return patternParts(pattern).map((part, index) => (part === '[]' ? (path[index] ?? part) : part))
}

function patternParts(pattern: string): string[] {
  return pattern.replaceAll('[]', '.[]').split('.')
}

function isSectionList(node: unknown): node is Record<PropertyKey, unknown>[] {
  return Array.isArray(node) && node.length > 0 && node.every(isSection)
}
