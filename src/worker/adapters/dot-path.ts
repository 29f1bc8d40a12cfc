/** Configured dot-paths into raw JSON: own properties only, through arrays of objects, and without touching what was given. */
import type { JsonObject } from '../../shared/state/records.ts'

const INDEX = /^(?:0|[1-9]\d{0,5})$/

/** True for a JSON object (not null, not an array). */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/**
 * The values that a dot-path leads to. Where the path meets an array, a number picks an element and any other name goes into each element that is an
 * object. Empty when the path leads nowhere.
 */
export function valuesAt(root: unknown, path: string): readonly unknown[] {
  const values: unknown[] = []
  mapAt(root, path, (value) => {
    values.push(value)
    return value
  })
  return values
}

/** `root` with every value at the dot-path replaced; only what lies along the path is copied, and nothing is when no value changes. */
export function mapAt(root: unknown, path: string, replace: (value: unknown) => unknown): unknown {
  return visit(root, path.split('.'), replace)
}

function visit(
  node: unknown,
  path: readonly string[],
  replace: (value: unknown) => unknown,
): unknown {
  const [name, ...rest] = path
  if (name === undefined) return replace(node)
  if (Array.isArray(node)) return visitArray(node, path, replace)
  // Own properties only: `constructor` and the like must not lead into prototypes.
  if (!isJsonObject(node) || !Object.hasOwn(node, name)) return node
  const before = node[name]
  const after = visit(before, rest, replace)
  // A computed key defines an own property, also when it is called `__proto__`.
  return after === before ? node : { ...node, [name]: after }
}

function visitArray(
  nodes: readonly unknown[],
  path: readonly string[],
  replace: (value: unknown) => unknown,
): unknown {
  const [name = '', ...rest] = path
  const picked = INDEX.test(name) ? Number(name) : undefined
  const next = nodes.map((node, index) => {
    if (picked !== undefined) return index === picked ? visit(node, rest, replace) : node
    // Arrays directly inside arrays are not entered, so that the depth is the length of the path.
    return isJsonObject(node) ? visit(node, path, replace) : node
  })
  return next.some((node, index) => node !== nodes[index]) ? next : nodes
}
