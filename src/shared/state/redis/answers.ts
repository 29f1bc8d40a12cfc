/** Reads what scripts answer: lists of strings, numbers and Buffers, nil as null. */

/** A list; empty for nil. */
export function listOf(answer: unknown): readonly unknown[] {
  return Array.isArray(answer) ? answer : []
}

/** Text, from a string, a Buffer or a number; empty for nil. */
export function textOf(value: unknown): string {
  if (typeof value === 'string') return value
  if (Buffer.isBuffer(value)) return value.toString('utf8')
  return typeof value === 'number' ? String(value) : ''
}

/** A number, also when it came as text; 0 for nil. */
export function numberOf(value: unknown): number {
  return Number(textOf(value))
}

/** Bytes; empty for nil. */
export function bytesOf(value: unknown): Buffer {
  return Buffer.isBuffer(value) ? value : Buffer.alloc(0)
}

/** The first entry of a list as text: scripts that have several outcomes name them there. */
export function outcomeOf(answer: unknown): string {
  return textOf(listOf(answer)[0])
}
