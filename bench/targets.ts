/** What the adapter should reach. A target is a limit that is not to be exceeded. */

/** One number of a row with its limits. */
export interface Target {
  readonly metric: string
  readonly unit: string
  readonly target: number
  readonly stretch: number
}

/** One row of the table. */
export interface TargetRow {
  readonly what: string
  readonly limits: readonly Target[]
}

/** A name of a row. */
export type RowId = keyof typeof TARGETS

const ratio = (target: number, stretch: number): Target => ({
  metric: 'ratio',
  unit: '×',
  target,
  stretch,
})

/** The rows in the order of the table. */
export const TARGETS = {
  P1: {
    what: 'pass-through `tools/call`, `disk` state: CPU per request against nginx',
    limits: [ratio(2.5, 1.7)],
  },
  P2: {
    what: 'the same with `redis` state: CPU per request against P1',
    limits: [ratio(1.25, 1.1)],
  },
  P3: {
    what: 'latency added to a direct call at 30 % of saturation',
    limits: [
      { metric: 'p50', unit: 'ms', target: 0.4, stretch: 0.25 },
      { metric: 'p99', unit: 'ms', target: 2, stretch: 1 },
    ],
  },
  P4: {
    what: 'wrapped call (upload handle in, artifact out): CPU per request against pass-through',
    limits: [ratio(3, 2)],
  },
  P5: {
    what: '`tools/list` of 185 tools, shaped and pinned: CPU per request against pass-through of the same bytes',
    limits: [ratio(1.5, 1.1)],
  },
  P6: {
    what: '10 000 open sessions, idle: resident memory of each',
    limits: [{ metric: 'each', unit: 'KB', target: 3, stretch: 1.5 }],
  },
  P7: {
    what: '5 000 held GET streams, proxied: resident memory of each',
    limits: [{ metric: 'each', unit: 'KB', target: 25, stretch: 15 }],
  },
  P8: {
    what: 'upload of 1 GiB with digest: time against `cp` and `sha256sum`',
    limits: [ratio(1.5, 1.1)],
  },
  P9: { what: 'download of 1 GiB: CPU against nginx', limits: [ratio(2, 1.3)] },
  P10: {
    what: "small calls' p99 while four uploads of 1 GiB run: against without them",
    limits: [ratio(3, 1.5)],
  },
  P11: {
    what: 'start to ready, `disk` state',
    limits: [{ metric: 'median', unit: 's', target: 0.6, stretch: 0.35 }],
  },
  P12: {
    what: 'memory added during a transfer of 1 GiB',
    limits: [{ metric: 'peak', unit: 'MiB', target: 64, stretch: 24 }],
  },
} as const satisfies Readonly<Record<string, TargetRow>>
