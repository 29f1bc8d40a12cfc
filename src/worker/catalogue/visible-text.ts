/** Text that an upstream wrote for a model to read, without what a person who reviews it would not see. Pure. */

/** What is done to a text. */
export interface TextRules {
  readonly normalizeUnicode: boolean
  readonly removeInvisibleCharacters: boolean
  /** Longest result, in characters (code points); null for any length. */
  readonly maxChars: number | null
}

/** Text that no rule but a cap can change; most text is. */
const PLAIN = /^[\t\n\r\x20-\x7e]*$/

/** More combining marks in a row than any script needs: sorting them, as NFKC does, takes time with the square of their number. */
const PILED_MARKS = /(\p{M}{30})\p{M}+/gu

/**
 * Format characters (bidi controls, zero-width ones, tags), what renderers ignore (variation selectors, fillers), controls but for blanks, and halves of
 * surrogate pairs. An emoji keeps the selector that makes it one.
 */
const INVISIBLE =
  /(?<=[\p{Extended_Pictographic}#*0-9])(\uFE0F)|[\p{Cf}\p{Default_Ignorable_Code_Point}\p{Cs}]|(?![\t\n\r])\p{Cc}/gu

const ELLIPSIS = '...'

/** A text longer than its cap by this factor is cut before anything else, so that work is bounded by the cap. */
const LOOKED_AT = 8

/** The text by the rules; the very same string when they change nothing. */
export function cleanText(text: string, rules: TextRules): string {
  const { maxChars } = rules
  if (PLAIN.test(text)) return maxChars === null ? text : capped(text, maxChars, false)
  const room = maxChars === null ? text.length : maxChars * LOOKED_AT + 1_024
  const isCut = text.length > room
  let cleaned = isCut ? text.slice(0, room) : text
  // Before, so that nothing keeps apart what belongs together, and after, for what only then is there.
  if (rules.removeInvisibleCharacters) cleaned = cleaned.replace(INVISIBLE, '$1')
  if (rules.normalizeUnicode) {
    cleaned = cleaned.replace(PILED_MARKS, '$1').normalize('NFKC')
    if (rules.removeInvisibleCharacters) cleaned = cleaned.replace(INVISIBLE, '$1')
  }
  return maxChars === null ? cleaned : capped(cleaned, maxChars, isCut)
}

/** The text cut to a number of code points, an ellipsis included where there is room for one. */
export function capped(text: string, maxChars: number, isCut: boolean): string {
  // No more code points than units.
  if (text.length <= maxChars && !isCut) return text
  const characters = Array.from(text.slice(0, 2 * maxChars + 2))
  if (characters.length <= maxChars && !isCut) return text
  const end = maxChars <= ELLIPSIS.length ? '' : ELLIPSIS
  return characters.slice(0, maxChars - end.length).join('') + end
}
