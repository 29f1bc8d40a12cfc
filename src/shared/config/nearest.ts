/** Finds the word that a mistyped one was probably meant to be. */

/** Shortest word that may stand for a longer one that begins or ends with it. */
const MIN_PART_LENGTH = 4

/** The candidate within a quarter of the word's length in edits (at least 2), else the only one that begins or ends with the word, or undefined. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const limit = Math.max(2, Math.floor(word.length / 4))
  const wanted = word.slice(0, 64).toLowerCase()
  let best: { candidate: string; distance: number } | undefined
  for (const candidate of candidates) {
    const distance = editDistance(wanted, candidate.toLowerCase())
    if (distance <= limit && distance < candidate.length && distance < (best?.distance ?? Infinity))
      best = { candidate, distance }
  }
  return best?.candidate ?? completed(wanted, candidates)
}

function completed(part: string, candidates: readonly string[]): string | undefined {
  if (part.length < MIN_PART_LENGTH) return undefined
  const [only, ...others] = candidates.filter(
    (candidate) => candidate.startsWith(part) || candidate.endsWith(`_${part}`),
  )
  return others.length === 0 ? only : undefined
}

/** Insertions, deletions, replacements and swaps of neighbours that turn one word into the other. */
function editDistance(from: string, to: string): number {
  let beforePrevious: number[] = []
  let previous = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (let row = 1; row <= from.length; row++) {
    const current = [row]
    for (let column = 1; column <= to.length; column++) {
      const replace = from[row - 1] === to[column - 1] ? 0 : 1
      let cost = Math.min(
        (previous[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (previous[column - 1] ?? 0) + replace,
      )
      if (
        from[row - 1] === to[column - 2] &&
        from[row - 2] === to[column - 1] &&
        row > 1 &&
        column > 1
      )
        cost = Math.min(cost, (beforePrevious[column - 2] ?? 0) + 1)
      current.push(cost)
    }
    beforePrevious = previous
    previous = current
  }
  return previous[to.length] ?? 0
}
