/** Command line of the benchmark. */
import { parseArgs } from 'node:util'

import type { Scale } from './scenarios/scenario.ts'
import { TARGETS } from './targets.ts'

/** What was asked for. */
export interface Options {
  readonly isQuick: boolean
  /** Row ids, `growth` or `telemetry`; undefined for all. */
  readonly only: ReadonlySet<string> | undefined
  /** Whether the page and the JSON file are written. */
  readonly writes: boolean
  /** The adapter's main.js, when it is not the one beside this build. */
  readonly adapter: string | undefined
}

/** How to call it. */
export const USAGE = `npm run bench -- [--quick] [--only P1,P5,growth] [--write] [--adapter dist/primary/main.js]
`

const GIB = 1_073_741_824

const FULL: Scale = {
  rounds: 5,
  seconds: 3,
  sessions: 10_000,
  streams: 5_000,
  fileBytes: GIB,
  idleSeconds: 80,
  starts: 9,
  growth: 10_000,
}

const QUICK: Scale = {
  rounds: 2,
  seconds: 1,
  sessions: 2_000,
  streams: 1_000,
  fileBytes: GIB / 4,
  idleSeconds: 0,
  starts: 3,
  growth: 1_000,
}

/** Reads the arguments; throws an error that says what is wrong. */
export function readOptions(argv: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      quick: { type: 'boolean', default: false },
      only: { type: 'string' },
      write: { type: 'boolean', default: false },
      adapter: { type: 'string' },
    },
  })
  const only = values.only?.split(',').map((row) => row.trim())
  const known = new Set([...Object.keys(TARGETS), 'growth', 'telemetry'])
  const strange = only?.find((row) => !known.has(row))
  if (strange !== undefined)
    throw new Error(`--only: ${strange} is none of ${[...known].join(', ')}`)
  return {
    isQuick: values.quick,
    only: only === undefined ? undefined : new Set(only),
    writes: values.write || (!values.quick && only === undefined),
    adapter: values.adapter,
  }
}

/** How long and how large. */
export function scaleOf(options: Options): Scale {
  return options.isQuick ? QUICK : FULL
}
