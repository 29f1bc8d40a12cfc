/** The fields of `servers[].upstream` for servers that the adapter runs itself, over standard input and output. */

import { z } from 'zod'

import { byteSize, choice, integer, positive, text } from './fields.ts'

const VARIABLE_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/

function variableName() {
  return z
    .string()
    .trim()
    .regex(VARIABLE_NAME, 'must be the name of an environment variable (letters, digits and _)')
}

/** Free of NUL, which ends a text for the operating system. */
function plainText() {
  return z.string().refine((value) => !value.includes('\0'), 'must not hold a NUL character')
}

/** What a process gets of the adapter's environment unless the operator says otherwise: what programs need to find things, and no secret. */
const INHERITED = ['PATH', 'HOME', 'LANG', 'LC_ALL', 'LOGNAME', 'SHELL', 'TMPDIR', 'TZ', 'USER']

/** See the file comment. */
export const stdioFields = {
  command: text()
    .nullable()
    .default(null)
    .describe(
      'With `transport: stdio`: the program to run, a path or a name that is looked for in PATH. No shell is involved.',
    ),
  args: z
    .array(plainText())
    .default([])
    .describe('Arguments of `command`. Seen by every user of the machine: secrets go to `env`.'),
  env: z
    .record(variableName(), plainText())
    .default({})
    .describe('Environment variables of the process. The values are secret.'),
  inherit_env: z
    .array(variableName())
    .default(INHERITED)
    .describe(
      'Environment variables that the process gets from the adapter, where they are set. No others are: what is in the environment of the adapter may be secret.',
    ),
  cwd: text()
    .nullable()
    .default(null)
    .describe('The directory that the process starts in; null for that of the adapter.'),
  process: choice(['per_session', 'shared'])
    .default('per_session')
    .describe(
      '`per_session`: every session has a process of its own. `shared`: one process per worker serves all sessions, so nothing that it keeps is apart, and it can ask clients nothing (sampling, elicitation, roots).',
    ),
  max_processes: positive()
    .default(16)
    .describe(
      'Processes of this server at a time, per worker; a session beyond it is refused with 503. Sessions are spread over workers evenly, not exactly.',
    ),
  max_message_bytes: byteSize({ min: 1024 })
    .default(64 * 1024 ** 2)
    .describe(
      'Longest line that the process may write as a message; one with a longer one is ended.',
    ),
  max_memory: byteSize({ min: 1024 ** 2 })
    .nullable()
    .default(null)
    .describe(
      'Resident memory of the process and of those in its process group, together, looked at every 2 seconds (Linux); above it they are ended. null for no limit.',
    ),
  start_timeout_seconds: positive()
    .default(30)
    .describe('Seconds from the start of the process to its answer to `initialize`.'),
  stop_grace_seconds: integer({ min: 0, max: 60 })
    .default(2)
    .describe(
      'Seconds that the process has to end after its input was closed, and again after SIGTERM; then its process group is killed.',
    ),
  max_restarts: positive()
    .default(5)
    .describe(
      'How often a shared process that ended by itself is started again within `restart_window_seconds`, with growing pauses; beyond it requests are refused with 502.',
    ),
  restart_window_seconds: positive().default(60).describe('See `max_restarts`.'),
}
