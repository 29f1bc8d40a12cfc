/** Turns the snake_case tree of the YAML file into the camelCase tree that code reads, values untouched. */

/** `max_file_bytes` to `maxFileBytes`, at type level. */
export type CamelCase<Key extends string> = Key extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : Key

/** The same tree with camelCase keys, read-only throughout; open maps (header names) keep their keys. */
export type Camelized<T> = T extends readonly (infer Entry)[]
  ? readonly Camelized<Entry>[]
  : T extends object
    ? string extends keyof T
      ? Readonly<T>
      : {
          readonly [Key in keyof T as Key extends string ? CamelCase<Key> : never]: Camelized<
            T[Key]
          >
        }
    : T

/** Fields whose keys are data, chosen by the operator, and not names of ours. */
export const MAP_FIELDS: ReadonlySet<string> = new Set(['headers', 'static_headers', 'env'])

/** Rewrites every key of a configuration tree to camelCase, except the keys inside `MAP_FIELDS`. */
export function camelize<T>(tree: T): Camelized<T> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the type is defined as what `rewrite` does to the keys
  return rewrite(tree) as Camelized<T>
}

function rewrite(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(rewrite)
  if (typeof node !== 'object' || node === null) return node
  return Object.fromEntries(
    Object.entries(node).map(([key, value]) => [
      camelKey(key),
      MAP_FIELDS.has(key) ? value : rewrite(value),
    ]),
  )
}

function camelKey(key: string): string {
  return key.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
}
