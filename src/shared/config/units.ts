/** Byte sizes as operators write them: `10485760`, `"10Mi"`, `"50 GB"`. */

const DECIMAL = 1000
const BINARY = 1024

const BYTES_PER_UNIT: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: DECIMAL,
  kb: DECIMAL,
  m: DECIMAL ** 2,
  mb: DECIMAL ** 2,
  g: DECIMAL ** 3,
  gb: DECIMAL ** 3,
  t: DECIMAL ** 4,
  tb: DECIMAL ** 4,
  ki: BINARY,
  kib: BINARY,
  mi: BINARY ** 2,
  mib: BINARY ** 2,
  gi: BINARY ** 3,
  gib: BINARY ** 3,
  ti: BINARY ** 4,
  tib: BINARY ** 4,
}

/** A byte size in text: whole digits, optional blanks, an optional unit. */
export const BYTE_SIZE_PATTERN = /^\s*(\d+)\s*([A-Za-z]{0,3})\s*$/

const PRINTED_UNITS = ['Ti', 'Gi', 'Mi', 'Ki'] as const

/** Reads a byte size; undefined when it is not one (fractions, signs and unknown units are not). */
export function parseByteSize(value: unknown): number | undefined {
  if (typeof value === 'number') {
    return Number.isSafeInteger(value) && value >= 0 ? value : undefined
  }
  if (typeof value !== 'string') return undefined
  const [, digits, unit = ''] = BYTE_SIZE_PATTERN.exec(value) ?? []
  if (digits === undefined) return undefined
  const name = unit.toLowerCase()
  if (!Object.hasOwn(BYTES_PER_UNIT, name)) return undefined
  const bytes = Number(digits) * (BYTES_PER_UNIT[name] ?? Number.NaN)
  return Number.isSafeInteger(bytes) ? bytes : undefined
}

/** Prints a byte count exactly, in the largest binary unit that divides it: 10485760 as `10Mi`, 1500 as `1500`. */
export function formatByteSize(bytes: number): string {
  if (bytes === 0) return '0'
  for (const unit of PRINTED_UNITS) {
    const size = BYTES_PER_UNIT[unit.toLowerCase()] ?? 1
    if (bytes % size === 0) return `${bytes / size}${unit}`
  }
  return String(bytes)
}
