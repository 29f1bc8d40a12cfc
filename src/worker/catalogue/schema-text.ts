/** The text in a JSON Schema that is there to be read: titles and descriptions, at any depth. Pure. */
import { isJsonObject } from '../adapters/dot-path.ts'

/** Deeper ones than this are no schema that anybody wrote. */
export const MAX_SCHEMA_DEPTH = 128

/** Keywords whose members are schemas under names: a property may be called `default`. */
const NAMED_SCHEMAS = new Set([
  'properties',
  'patternProperties',
  '$defs',
  'definitions',
  'dependentSchemas',
])

/** Keywords whose value is data, which calls depend on. */
const DATA = new Set(['enum', 'const', 'default', 'examples', 'example'])

/** Answers what to write in place of a text; undefined takes it out. */
export type TextEdit = (text: string, key: 'title' | 'description') => string | undefined

/** A definition that is not shown, because it can not be judged; the message says why. */
export class UnfitToolError extends Error {
  override readonly name = 'UnfitToolError'
}

/** The schema with its texts edited; the very same object when none changes. Throws `UnfitToolError`. */
export function editSchemaText(schema: unknown, edit: TextEdit): unknown {
  return visit(schema, edit, 0, false)
}

/** `isNames`: the keys are names, not keywords. */
function visit(node: unknown, edit: TextEdit, depth: number, isNames: boolean): unknown {
  if (typeof node !== 'object' || node === null) return node
  if (depth > MAX_SCHEMA_DEPTH) throw new UnfitToolError('nested too deep')
  if (Array.isArray(node)) {
    const items: readonly unknown[] = node
    const edited = items.map((item) => visit(item, edit, depth + 1, false))
    return edited.some((item, index) => item !== items[index]) ? edited : node
  }
  if (!isJsonObject(node)) return node
  let hasChanged = false
  const entries: [string, unknown][] = []
  for (const [key, value] of Object.entries(node)) {
    const edited =
      isNames || !DATA.has(key)
        ? editMember(key, value, edit, { depth: depth + 1, isNames })
        : value
    if (edited !== value) hasChanged = true
    if (edited !== undefined || value === undefined) entries.push([key, edited])
  }
  // Defines own properties, also one that is called `__proto__`.
  return hasChanged ? Object.fromEntries(entries) : node
}

function editMember(
  key: string,
  value: unknown,
  edit: TextEdit,
  place: { readonly depth: number; readonly isNames: boolean },
): unknown {
  if ((key === 'title' || key === 'description') && typeof value === 'string') {
    return edit(value, key)
  }
  return visit(value, edit, place.depth, !place.isNames && NAMED_SCHEMAS.has(key))
}
