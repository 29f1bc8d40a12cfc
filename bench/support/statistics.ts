/** The few statistics that a run needs. */

/** The median; NaN of nothing. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

/** The value below which the share `q` of the values lies, interpolated; NaN of nothing. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  const position = (sorted.length - 1) * q
  const low = sorted[Math.floor(position)]
  const high = sorted[Math.ceil(position)]
  if (low === undefined || high === undefined) return NaN
  return low + (high - low) * (position - Math.floor(position))
}

/** Median of the ratios pair by pair: what slows the machine for a moment slows both of a pair. */
export function medianRatio(values: readonly number[], references: readonly number[]): number {
  return median(ratios(values, references))
}

/** The ratios pair by pair. */
export function ratios(values: readonly number[], references: readonly number[]): number[] {
  return values.map((value, index) => value / (references[index] ?? NaN))
}
