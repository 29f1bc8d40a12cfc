/** Process logging: pino, JSON lines on standard error, readable text on a terminal. */
import { isatty } from 'node:tty'

import { pino } from 'pino'

/** The part of pino that the program uses. */
export type Log = Pick<pino.Logger, 'debug' | 'info' | 'warn' | 'error'>

/** Names of fields that never reach a log, at the top level or one level down. */
const SECRET_FIELDS = [
  'token',
  'authorization',
  'cookie',
  'signingSecret',
  'password',
  'passphrase',
  'secret',
]

/**
 * Opens the log of one thread. `level` uses the configuration's names (`warning`, `critical`). Standard output stays free for commands that print a
 * result.
 */
export function openLog(level: string, thread: string): Log {
  const options: pino.LoggerOptions = {
    level: level === 'warning' ? 'warn' : level === 'critical' ? 'fatal' : level,
    base: { thread },
    redact: {
      paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]),
      censor: '<redacted>',
    },
  }
  if (isatty(2)) {
    return pino({
      ...options,
      transport: { target: 'pino-pretty', options: { destination: 2, ignore: 'pid,hostname' } },
    })
  }
  return pino(options, pino.destination({ dest: 2, sync: true }))
}

/** A session id short enough to be harmless in a log. */
export function shortId(id: string): string {
  return `${id.slice(0, 6)}…`
}
