/** Looking into plain trees of maps, lists and scalars. */

/** Keys and indices that lead to a node. */
export type TreePath = readonly PropertyKey[]

/** True for a map: an object that is not a list. */
export function isSection(node: unknown): node is Record<PropertyKey, unknown> {
  return typeof node === 'object' && node !== null && !Array.isArray(node)
}

/** An own entry of a map or list; undefined when there is none. */
export function entryOf(node: unknown, key: PropertyKey): unknown {
  if (Array.isArray(node)) return typeof key === 'number' ? node[key] : undefined
  return isSection(node) && Object.hasOwn(node, key) ? node[key] : undefined
}

/** The node at a path; undefined when there is none. */
export function valueAt(tree: unknown, path: TreePath): unknown {
  return path.reduce<unknown>(entryOf, tree)
}
