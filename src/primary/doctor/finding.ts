/** What a check found. */

/** `problem`: something does not work, or will be lost. `warning`: something may not be meant so. */
export interface Finding {
  readonly level: 'ok' | 'warning' | 'problem'
  /** What was looked at, in a word or two. */
  readonly subject: string
  /** What was seen, and what to do about it unless it is fine. One line, without secrets. */
  readonly text: string
}

export function ok(subject: string, text: string): Finding {
  return { level: 'ok', subject, text }
}

export function warning(subject: string, text: string): Finding {
  return { level: 'warning', subject, text }
}

export function problem(subject: string, text: string): Finding {
  return { level: 'problem', subject, text }
}

/** What an error says, in one line without a full stop. */
export function reasonOf(error: unknown): string {
  const [line = ''] = (error instanceof Error ? error.message : String(error)).split('\n')
  return line.replace(/\.$/, '')
}
