/**
 * Runs properties with a seed that is the same each time, or with the one in `PROPERTY_SEED` (a number, or `random`); with `PROPERTY_EFFORT` so many
 * times as often.
 */
import * as fc from 'fast-check'

const FIXED_SEED = 20_261_126

/** Throws with the seed and the smallest example when the property does not hold. */
export function holds<Values>(property: fc.IProperty<Values>, numRuns = 300): void {
  fc.assert(property, { numRuns: numRuns * effort(), ...seed() })
}

function seed(): { readonly seed?: number } {
  const asked = process.env['PROPERTY_SEED']
  if (asked === 'random') return {}
  return { seed: asked === undefined ? FIXED_SEED : Number(asked) }
}

function effort(): number {
  return Number(process.env['PROPERTY_EFFORT'] ?? 1)
}
