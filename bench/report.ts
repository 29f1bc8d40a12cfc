/** Turns findings into the table that is printed and the page that is kept. Judges, but never asserts. */
import type { Environment } from './environment.ts'
import type { Detail, Findings, Measured } from './scenarios/scenario.ts'
import { TARGETS } from './targets.ts'
import type { RowId, Target, TargetRow } from './targets.ts'

/** Everything of one run. */
export interface Run {
  readonly environment: Environment
  readonly findings: readonly Findings[]
  /** Scenarios that failed, with the reason. */
  readonly failed: readonly { readonly scenario: string; readonly reason: string }[]
  readonly seconds: number
}

/** How a row came out. */
export type Verdict = 'stretch' | 'yes' | 'no' | 'not measured'

/** A row of the table. */
export interface Line {
  readonly id: RowId
  readonly what: string
  readonly target: string
  readonly stretch: string
  readonly measured: string
  readonly met: Verdict
  readonly notes: readonly string[]
}

/** The rows that the run measured, or tried to, in the order of the targets. */
export function linesOf(run: Run): Line[] {
  const measured = run.findings.flatMap((finding) => finding.measured)
  // The keys of a constant object are its own.
  const ids = Object.keys(TARGETS) as RowId[]
  return ids.flatMap((id) => {
    const found = measured.find((each) => each.row === id)
    return found === undefined ? [] : [lineOf(id, TARGETS[id], found)]
  })
}

/** The table as plain text for a terminal. */
export function textReport(run: Run): string {
  const heads = ['', 'target', 'stretch', 'measured', 'met?', 'what']
  const rows = linesOf(run).map(({ id, target, stretch, measured, met, what }) => {
    return [id, target, stretch, measured, met, what.replaceAll('`', '')]
  })
  const details = detailsOf(run).map(
    (detail) => `\n${detail.title}\n${plainTable(detail.columns, detail.rows)}`,
  )
  const notes = linesOf(run).flatMap((line) => line.notes.map((note) => `${line.id}: ${note}`))
  const failed = run.failed.map((each) => `${each.scenario} FAILED: ${each.reason}`)
  return [plainTable(heads, rows), '', ...notes, ...failed, ...details, ''].join('\n')
}

/** The page for `docs/`. */
export function markdownReport(run: Run): string {
  const heads = ['#', 'what', 'target', 'stretch', 'measured', 'met?']
  const rows = linesOf(run).map(({ id, what, target, stretch, measured, met }) => {
    return [id, what, target, stretch, measured, met]
  })
  const notes = linesOf(run)
    .filter((line) => line.notes.length > 0)
    .map((line) => `- **${line.id}** ${line.notes.join('; ')}.`)
  const failed = run.failed.map((each) => `- ${each.scenario} failed: ${each.reason}`)
  const details = detailsOf(run).flatMap((detail) => [
    `### ${detail.title}`,
    markdownTable(detail.columns, detail.rows),
  ])
  return `${[
    '# Benchmarks',
    INTRODUCTION,
    '## Targets',
    markdownTable(heads, rows),
    [...notes, ...failed].join('\n'),
    '## Environment',
    markdownTable(
      ['', ''],
      [...run.environment, ['took', `${(run.seconds / 60).toFixed(1)} minutes`]],
    ),
    '## Details',
    ...details,
  ]
    .filter((part) => part !== '')
    .join('\n\n')}\n`
}

/** The same for programs. */
export function jsonReport(run: Run): string {
  const environment = Object.fromEntries(run.environment)
  const { failed, seconds } = run
  const details = detailsOf(run)
  const values = run.findings.flatMap((finding) => finding.measured)
  return `${JSON.stringify({ environment, seconds, rows: linesOf(run), values, details, failed }, null, 2)}\n`
}

const INTRODUCTION = `This page is written by \`npm run bench\`; change the benchmark, not the page. \`npm run bench -- --quick\` takes about two minutes with
smaller sizes, \`-- --only P1,P5\` measures some rows; neither touches this page unless \`--write\` is given.

What is compared is measured in one run, in interleaved rounds. Ratios are taken pair by pair, then the median. CPU per request is user and system time
of the whole process tree (threads included) from \`/proc\`, divided by the requests answered. The adapter runs with authentication and limits on. Load comes
from autocannon in a process of its own, latency from a client that sends at a steady rate; the upstream is a minimal MCP server on
uWebSockets.js. Everything shares one machine, so requests per second show what is left after the load generator and the upstream took their part: compare
them within a table only.`

function lineOf(id: RowId, row: TargetRow, found: Measured): Line {
  const show = (pick: (limit: Target) => number | undefined): string =>
    row.limits.map((limit) => numberText(pick(limit))).join(' / ') + unitOf(row)
  const isMeasured = row.limits.every((limit) => Number.isFinite(found.values[limit.metric]))
  const within = (pick: (limit: Target) => number): boolean =>
    row.limits.every((limit) => (found.values[limit.metric] ?? Infinity) <= pick(limit))
  return {
    id,
    what: row.what,
    target: `≤ ${show((limit) => limit.target)}`,
    stretch: `≤ ${show((limit) => limit.stretch)}`,
    measured: isMeasured ? show((limit) => found.values[limit.metric]) : '–',
    met: !isMeasured
      ? 'not measured'
      : within((limit) => limit.stretch)
        ? 'stretch'
        : within((limit) => limit.target)
          ? 'yes'
          : 'no',
    notes: found.notes,
  }
}

function unitOf(row: TargetRow): string {
  const unit = row.limits[0]?.unit ?? ''
  const names =
    row.limits.length > 1 ? ` (${row.limits.map((limit) => limit.metric).join(' / ')})` : ''
  return (unit === '×' ? unit : ` ${unit}`) + names
}

function numberText(value: number | undefined): string {
  if (value === undefined) return '–'
  return Number.isInteger(value) || Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(2)
}

function detailsOf(run: Run): readonly Detail[] {
  return run.findings.flatMap((finding) => finding.details)
}

function markdownTable(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  return [heads, heads.map(() => '---'), ...rows].map(markdownLine).join('\n')
}

function markdownLine(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`
}

function plainTable(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [heads, ...rows]
  const widths = heads.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)))
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}
