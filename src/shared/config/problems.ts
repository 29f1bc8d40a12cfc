/** What is wrong with a configuration, said so that the operator can find and repair it. */

/** One mistake. */
export interface ConfigProblem {
  /** Dotted path of the field, such as `servers[0].upstream.url`; empty for the file as a whole. */
  readonly path: string
  /** Line in the file, from 1; null when the problem has no place in the file. */
  readonly line: number | null
  /** Column in the line, from 1; null when the problem has no place in the file. */
  readonly column: number | null
  /** What is wrong and what would be right; never contains a secret. */
  readonly message: string
}

/** The configuration can't be used; lists everything that was found wrong, in the order of the file. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  readonly problems: readonly ConfigProblem[]

  constructor(file: string, problems: readonly ConfigProblem[]) {
    const sorted = problems.toSorted(
      (a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0),
    )
    const noun = sorted.length === 1 ? '1 problem' : `${sorted.length} problems`
    super(
      [`${noun} in the configuration`, ...sorted.map((p) => `  ${formatProblem(file, p)}`)].join(
        '\n',
      ),
    )
    this.problems = sorted
  }
}

/** A path of keys and indices as text: `servers[0].upstream.url`. */
export function dottedPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`
    return text === '' ? String(part) : `${text}.${String(part)}`
  }, '')
}

function formatProblem(file: string, problem: ConfigProblem): string {
  const place = problem.line === null ? file : `${file}:${problem.line}:${problem.column ?? 1}`
  return problem.path === ''
    ? `${place}: ${problem.message}`
    : `${place}: ${problem.path} ${problem.message}`
}
