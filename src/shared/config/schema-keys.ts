/** Which keys the schema knows at a path of the file. */

import { z } from 'zod'

import { documentSchema } from './schema/document.ts'
import { entryOf, type TreePath } from './tree.ts'

/** The known keys of the section at a path; the tree decides between adapters of different types. */
export function keysAt(tree: unknown, path: TreePath): string[] {
  let schema: unknown = documentSchema
  let node: unknown = tree
  for (const part of path) {
    const within = sectionOf(schema, node)
    if (within instanceof z.ZodObject) schema = entryOf(within.shape, part)
    else if (within instanceof z.ZodArray) schema = within.element
    else return []
    node = entryOf(node, part)
  }
  const section = sectionOf(schema, node)
  return section instanceof z.ZodObject ? Object.keys(section.shape) : []
}

/** The schema without the wrappers for defaults, null and coercion, and with unions decided by `type`. */
function sectionOf(schema: unknown, node: unknown): unknown {
  if (
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodPrefault ||
    schema instanceof z.ZodNullable
  )
    return sectionOf(schema.unwrap(), node)
  if (schema instanceof z.ZodDiscriminatedUnion) {
    const type = entryOf(node, 'type')
    return schema.options.find(
      (option) =>
        option instanceof z.ZodObject &&
        option.shape['type'] instanceof z.ZodLiteral &&
        option.shape['type'].value === type,
    )
  }
  if (schema instanceof z.ZodUnion) {
    return schema.options.find((option) => option instanceof z.ZodObject)
  }
  return schema
}
