/** `npm run bench`: measures the adapter against its targets in one run and reports. It judges, and never fails because of a number. */
import { execFileSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

import { readEnvironment } from './environment.ts'
import { readOptions, scaleOf, USAGE } from './options.ts'
import type { Options } from './options.ts'
import { jsonReport, markdownReport, textReport } from './report.ts'
import type { Run } from './report.ts'
import { addedLatency } from './scenarios/added-latency.ts'
import { callsDuringUploads } from './scenarios/calls-during-uploads.ts'
import { collectors } from './scenarios/collectors.ts'
import { growth } from './scenarios/growth.ts'
import { heldStreams } from './scenarios/held-streams.ts'
import { idleSessions } from './scenarios/idle-sessions.ts'
import { largeFiles } from './scenarios/large-files.ts'
import { passThrough } from './scenarios/pass-through.ts'
import type { Bench, Findings, Scenario } from './scenarios/scenario.ts'
import { start } from './scenarios/start.ts'
import { toolsList } from './scenarios/tools-list.ts'
import { wrappedCall } from './scenarios/wrapped-call.ts'
import { openBench } from './support/bench.ts'

/** Where results are kept, from the folder that the command is given in: the repository. */
const PAGE = resolve('docs/benchmarks.md')
const RESULTS = resolve('bench/results.json')

const SCENARIOS: readonly Scenario[] = [
  start,
  passThrough,
  addedLatency,
  wrappedCall,
  toolsList,
  idleSessions,
  heldStreams,
  largeFiles,
  callsDuringUploads,
  collectors,
  growth,
]

process.once('SIGINT', () => process.exit(130))
process.once('SIGTERM', () => process.exit(143))
await main()

async function main(): Promise<void> {
  let options: Options
  try {
    options = readOptions(process.argv.slice(2))
  } catch (error) {
    process.stderr.write(`${String(error)}\n${USAGE}`)
    process.exitCode = 64
    return
  }
  const run = await runAll(options)
  process.stdout.write(`\n${textReport(run)}`)
  if (!options.writes) return
  await writeFile(PAGE, markdownReport(run))
  await writeFile(RESULTS, jsonReport(run))
  format([PAGE, RESULTS])
  process.stdout.write(`written: ${PAGE} and ${RESULTS}\n`)
}

/** As the rest of the repository is; without the formatter the files are as good. */
function format(paths: readonly string[]): void {
  try {
    execFileSync(resolve('node_modules/.bin/oxfmt'), [...paths], { stdio: 'ignore' })
  } catch {
    // it is a development dependency
  }
}

async function runAll(options: Options): Promise<Run> {
  const startedAt = performance.now()
  const environment = readEnvironment(options.isQuick ? 'quick (smaller sizes)' : 'full')
  const directory = await mkdtemp(join(tmpdir(), 'adapter-bench-'))
  // Also when the run is interrupted; by then its children are ended.
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }))
  const upstreamEntry = fileURLToPath(new URL('./support/upstream.js', import.meta.url))
  const opened = await openBench({
    directory,
    upstreamEntry,
    scale: scaleOf(options),
    adapter: options.adapter,
  })
  const findings: Findings[] = []
  const failed: { scenario: string; reason: string }[] = []
  try {
    for (const scenario of wanted(options)) {
      process.stderr.write(`${scenario.name} (${scenario.rows.join(', ')}) …\n`)
      // oxlint-disable-next-line no-await-in-loop -- scenarios don't compete
      const outcome = await attempt(scenario, opened.bench)
      if ('reason' in outcome) failed.push({ scenario: scenario.name, ...outcome })
      else findings.push(only(outcome, options))
    }
  } finally {
    await opened.close()
  }
  return { environment, findings, failed, seconds: (performance.now() - startedAt) / 1_000 }
}

function wanted(options: Options): Scenario[] {
  return SCENARIOS.filter(({ rows }) => rows.some((row) => options.only?.has(row) ?? true))
}

/** A scenario may measure more than was asked for. */
function only(findings: Findings, options: Options): Findings {
  const measured = findings.measured.filter(({ row }) => options.only?.has(row) ?? true)
  return { ...findings, measured }
}

/** One failing scenario does not spoil the rest. */
async function attempt(scenario: Scenario, bench: Bench): Promise<Findings | { reason: string }> {
  try {
    return await scenario.run(bench)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    process.stderr.write(`  failed: ${reason}\n`)
    return { reason }
  }
}
