/** Interleaved rounds: what is compared is measured in turn, in an order that rotates, so that drift of the machine hits all alike. */

/** Measures each contender once a round; the answer has, by contender name, one value a round. */
export async function interleave<T>(
  names: readonly string[],
  rounds: number,
  measure: (name: string) => Promise<T>,
): Promise<ReadonlyMap<string, readonly T[]>> {
  const results = new Map<string, T[]>(names.map((name) => [name, []]))
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < names.length; turn++) {
      const name = names[(round + turn) % names.length] ?? ''
      // oxlint-disable-next-line no-await-in-loop -- one at a time is the point
      results.get(name)?.push(await measure(name))
    }
  }
  return results
}

/** One number of each round of a contender. */
export function series<T>(
  results: ReadonlyMap<string, readonly T[]>,
  name: string,
  pick: (value: T) => number,
): number[] {
  return (results.get(name) ?? []).map(pick)
}
