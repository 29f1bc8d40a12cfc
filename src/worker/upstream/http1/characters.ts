/** Which bytes may stand where in a head (RFC 9110 §5.5, §5.6.2). */

export const CR = 13
export const LF = 10
export const SPACE = 32
export const TAB = 9
export const COLON = 58

const TOKEN_MARKS = "!#$%&'*+-.^_`|~"

/** For each byte of a token (a field name) the same byte in lower case; 0 for bytes that no token has. */
export const TOKEN_LOWER: Uint8Array = tokenTable()

/** Whether a byte may stand in a field value or a reason phrase: visible characters, space, tab, and what is beyond ASCII. */
export function isText(byte: number): boolean {
  return (byte >= SPACE && byte !== 127) || byte === TAB
}

/** Whether a byte is a decimal digit. */
export function isDigit(byte: number): boolean {
  return byte >= 48 && byte <= 57
}

function tokenTable(): Uint8Array {
  const table = new Uint8Array(256)
  for (let byte = 0; byte < 128; byte++) {
    const character = String.fromCharCode(byte)
    if (/[0-9A-Za-z]/.test(character) || TOKEN_MARKS.includes(character))
      table[byte] = character.toLowerCase().charCodeAt(0)
  }
  return table
}
