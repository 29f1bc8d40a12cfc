/** `core.code_mode`: what the scripts of `execute` may use up. */

import { byteSize, integer, section } from './fields.ts'

const KIB = 1024
const MIB = 1024 ** 2

/** `core.code_mode`. */
export const codeModeSchema = section({
  timeout_seconds: integer({ min: 1, max: 3600 })
    .default(300)
    .describe('Seconds that a script may take from start to end, its tool calls included.'),
  compute_seconds: integer({ min: 1, max: 300 })
    .default(10)
    .describe('Seconds of them in which a script may compute, while it does not wait for a tool.'),
  memory: byteSize({ min: 4 * MIB, max: 1024 * MIB })
    .default(64 * MIB)
    .describe('Memory that a script may use.'),
  max_tool_calls: integer({ min: 1, max: 10_000 })
    .default(100)
    .describe('Tool calls that one script may make.'),
  max_parallel_tool_calls: integer({ min: 1, max: 64 })
    .default(8)
    .describe('Tool calls of one script at a time; further ones wait for their turn.'),
  max_code_bytes: byteSize({ min: KIB, max: 4 * MIB })
    .default(256 * KIB)
    .describe('Largest script.'),
  max_output_bytes: byteSize({ min: KIB, max: 16 * MIB })
    .default(256 * KIB)
    .describe('Largest value that a script may return, as JSON.'),
  max_console_bytes: byteSize({ min: 0, max: 4 * MIB })
    .default(64 * KIB)
    .describe('How much of what a script prints is kept; the rest is left out.'),
  max_scripts: integer({ min: 1, max: 64 })
    .default(4)
    .describe(
      'Scripts that one worker runs at a time, each in a thread of its own; four times as many may wait, and more are refused.',
    ),
  max_scripts_per_session: integer({ min: 1, max: 64 })
    .default(2)
    .describe('Scripts of one session, running or waiting, at a time.'),
})
