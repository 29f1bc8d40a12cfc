/** Bytes that mean something in JSON, for what looks at messages without parsing them. */
export const QUOTE = 0x22
export const COMMA = 0x2c
export const COLON = 0x3a
export const OPEN_ARRAY = 0x5b
export const BACKSLASH = 0x5c
export const CLOSE_ARRAY = 0x5d
export const OPEN_OBJECT = 0x7b
export const CLOSE_OBJECT = 0x7d

/** Where the quote is that ends the string whose first byte is at `from`; the end of all bytes when there is none. */
export function endOfString(bytes: Uint8Array, from: number): number {
  let at = bytes.indexOf(QUOTE, from)
  while (at !== -1 && countBackslashes(bytes, from, at) % 2 === 1) at = bytes.indexOf(QUOTE, at + 1)
  return at === -1 ? bytes.length : at
}

/** How many backslashes stand right before `end`, and not before `start`: the next byte is escaped when their number is odd. */
export function countBackslashes(bytes: Uint8Array, start: number, end: number): number {
  let count = 0
  while (end - 1 - count >= start && bytes[end - 1 - count] === BACKSLASH) count++
  return count
}
