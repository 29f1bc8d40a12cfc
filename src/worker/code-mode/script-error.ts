/** What a script's failure reads like: the error, and the lines of the script that it came through. */

/** Longest text of an error, in characters: a script chooses its own. */
const MAX_LENGTH = 4_000
const MAX_LINES = 10
/** Scripts are evaluated under this name. */
export const SCRIPT_NAME = 'script.js'

const PLACE = new RegExp(`^\\s*at (.*?)\\s*\\(?${SCRIPT_NAME}:(\\d+)(?::\\d+)?\\)?$`)
const ANY_PLACE = /^\s*at .*(?:\)|:\d+|<eval>)$/
/** How the engine calls what has no name of its own. */
const NO_NAME = new Set(['', '<anonymous>', '<eval>'])

/** Makes it of `name: message` and, below, the stack as the engine writes it. */
export function scriptError(described: string): string {
  const lines = described.slice(0, MAX_LENGTH).split('\n')
  const first = lines.findIndex((line) => ANY_PLACE.test(line))
  const message = (first === -1 ? lines : lines.slice(0, first)).join('\n').trimEnd()
  const places: string[] = []
  for (const line of lines) {
    const [, where = '', number] = PLACE.exec(line) ?? []
    if (number === undefined || places.length === MAX_LINES) continue
    places.push(`    at line ${number}${NO_NAME.has(where) ? '' : ` (${where})`}`)
  }
  return [message, ...places].join('\n')
}
