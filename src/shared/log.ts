/** Process logging: pino, JSON lines on standard error, readable text on a terminal. Every line passes the redactor as the last thing before it is written. */
import { isatty } from 'node:tty'

import { pino } from 'pino'

import { AdapterError, StoreUnavailableError } from './errors.ts'
import type { Redactor } from './redaction.ts'

/** The part of pino that the program uses. */
export type Log = Pick<pino.Logger, 'debug' | 'info' | 'warn' | 'error'>

/** How many causes of an error are told. */
const MAX_CAUSES = 5

/** What every line of a log says, and who else gets the lines. */
export interface LogOptions {
  /** In every line. */
  readonly fields?: Readonly<Record<string, string | number>>
  /** Takes each line, redacted, besides what it is written to. It must not throw or wait. */
  readonly onLine?: ((line: Readonly<Record<string, unknown>>) => void) | undefined
}

/**
 * Opens the log of one thread. `level` uses the configuration's names (`warning`, `critical`). Standard output stays free for commands that print a
 * result.
 */
export function openLog(
  level: string,
  thread: string,
  redactor: Redactor,
  { fields = {}, onLine }: LogOptions = {},
): Log {
  const options: pino.LoggerOptions = {
    level: level === 'warning' ? 'warn' : level === 'critical' ? 'fatal' : level,
    base: { thread, ...fields },
    serializers: { err: describeError },
    hooks: { streamWrite: (line) => redactLine(line, redactor, onLine) },
  }
  if (isatty(2)) {
    return pino({
      ...options,
      transport: { target: 'pino-pretty', options: { destination: 2, ignore: 'pid,hostname' } },
    })
  }
  return pino(options, pino.destination({ dest: 2, sync: true }))
}

/**
 * What is told of an error: its name, message, code, causes and, when it was not expected, stack, and nothing else that hangs on it. Errors of clients carry what was sent, such as
 * the arguments of a Redis command.
 */
function describeError(error: unknown, causes = 0): unknown {
  if (!(error instanceof Error)) return String(error)
  const { name, message, stack, cause } = error
  return {
    type: name,
    message,
    ...('code' in error && typeof error.code === 'string' ? { code: error.code } : {}),
    ...(isExpected(error) ? {} : { stack }),
    ...(error instanceof AggregateError
      ? { errors: error.errors.slice(0, MAX_CAUSES).map(String) }
      : {}),
    ...(cause === undefined || causes >= MAX_CAUSES
      ? {}
      : { cause: describeError(cause, causes + 1) }),
  }
}

/**
 * Whether an error says all there is: what the system, the store or we ourselves refuse. Where in the code it was noticed helps nobody who runs the
 * adapter.
 */
function isExpected(error: Error): boolean {
  return (
    error instanceof AdapterError || error instanceof StoreUnavailableError || 'syscall' in error
  )
}

/** Values are redacted one by one, so that what is replaced never breaks the line. */
function redactLine(line: string, redactor: Redactor, onLine: LogOptions['onLine']): string {
  try {
    const redacted = redactor.value(JSON.parse(line))
    if (onLine !== undefined && isRecord(redacted)) onLine(redacted)
    return `${JSON.stringify(redacted)}\n`
  } catch {
    return redactor.text(line)
  }
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null
}
