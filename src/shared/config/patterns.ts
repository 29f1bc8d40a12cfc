/**
 * Regular expressions of operators. They run on text that upstreams choose, so the engine is one whose time grows with the length of the text only
 * (RE2): what can't be matched that way (look-around, back-references, huge counts) is refused when the configuration is read.
 */
import { RE2JS } from 're2js'

/** Time for all matches in one text, in milliseconds: each takes linear time, but there can be as many as characters. */
const FIND_BUDGET_MS = 250
/** Matches that are looked at in one text, empty and repeated ones included. */
const MAX_MATCHES = 1_000

/** A pattern that is safe on any text. */
export class LinearPattern {
  readonly #engine: RE2JS

  /** Takes JavaScript's syntax, and `(?P<name>…)`. Throws `SyntaxError` for what is invalid or can't be matched in linear time. */
  constructor(source: string) {
    try {
      this.#engine = RE2JS.compile(RE2JS.translateRegExp(source))
    } catch (error) {
      throw new SyntaxError(reasonOf(error), { cause: error })
    }
  }

  /** Whether the whole text matches. */
  matchesWhole(text: string): boolean {
    return this.#engine.testExact(text)
  }

  /** Whether there is a match anywhere in the text. */
  isIn(text: string): boolean {
    return this.#engine.test(text)
  }

  /** Group 1 of each match, or the match where there are no groups, in order; not all of them when that takes too long. */
  *find(text: string): Generator<string> {
    const startedAtMs = performance.now()
    let matches = 0
    for (const match of this.#engine.matchAll(text)) {
      const found: string | undefined = match.length > 1 ? match[1] : match[0]
      if (found !== undefined) yield found
      if (++matches >= MAX_MATCHES || performance.now() - startedAtMs > FIND_BUDGET_MS) return
    }
  }
}

/** What is wrong with a pattern, in a few words; undefined for one that can be used. */
export function patternProblem(source: string): string | undefined {
  try {
    void new LinearPattern(source)
    return undefined
  } catch (error) {
    return error instanceof SyntaxError ? error.message : String(error)
  }
}

function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  return text.replace(/^error parsing regexp: /, '')
}
