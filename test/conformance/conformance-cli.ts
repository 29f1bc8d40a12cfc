// Runs the official conformance suite's command line as a child process and reads the checks that it writes per scenario.

import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { z } from 'zod'

const projectRoot = new URL('../../../', import.meta.url)
const packageRoot = new URL('node_modules/@modelcontextprotocol/conformance/', projectRoot)
const suiteTimeoutMs = 100_000

const checksSchema = z.array(
  z.object({ id: z.string(), status: z.string(), errorMessage: z.string().optional() }),
)
const requirementsSchema = z.object({ server: z.array(z.string()), client: z.array(z.string()) })

/** One check of a scenario, as the suite reports it. */
export type Check = z.infer<typeof checksSchema>[number]

/** What one run of the suite said. */
export interface ConformanceRun {
  /** 0 when everything that is scored passed. */
  readonly exitCode: number
  /** Checks by scenario name, in the order in which the suite made them. */
  readonly scenarios: ReadonlyMap<string, readonly Check[]>
  /** Everything the suite printed. */
  readonly output: string
}

/** Runs `conformance <args>` and reads its results. Rejects if the command can't be run to its end. */
export async function runConformance(...args: readonly string[]): Promise<ConformanceRun> {
  const outputDir = await mkdtemp(join(tmpdir(), 'conformance-'))
  try {
    const { exitCode, output } = await runCli([...args, '-o', outputDir])
    return { exitCode, output, scenarios: await readScenarios(outputDir) }
  } finally {
    await rm(outputDir, { recursive: true, force: true })
  }
}

/** Names of the scenarios that a revision requires of a role, as published with the suite. */
export async function requiredScenarios(
  revision: string,
  role: 'server' | 'client',
): Promise<readonly string[]> {
  const text = await readFile(new URL(`requirements/${revision}.yaml`, packageRoot), 'utf8')
  return requirementsSchema.parse(parse(text))[role]
}

/** Whether a scenario's checks hold nothing that the suite objects to, and at least one that passed. */
export function isPassed(checks: readonly Check[] | undefined): boolean {
  if (checks === undefined) return false
  const isRejected = checks.some(({ status }) => status === 'FAILURE' || status === 'WARNING')
  return !isRejected && checks.some(({ status }) => status === 'SUCCESS')
}

/** A run as `scenario: check status` lines, sorted, for comparing two runs; `INFO` lines are notes of the suite, not verdicts. */
export function verdicts({ scenarios }: ConformanceRun): readonly string[] {
  const lines: string[] = []
  for (const [scenario, checks] of scenarios) {
    for (const { id, status } of checks) {
      if (status !== 'INFO') lines.push(`${scenario}: ${id} ${status}`)
    }
  }
  return lines.toSorted()
}

/** The objections of a run, with the suite's reasons, for a test's diagnostics. */
export function objections({ scenarios }: ConformanceRun): readonly string[] {
  return [...scenarios].flatMap(([scenario, checks]) =>
    checks
      .filter(({ status }) => status === 'FAILURE' || status === 'WARNING')
      .map(({ id, status, errorMessage = '' }) => `${scenario}: ${id} ${status} ${errorMessage}`),
  )
}

function runCli(args: readonly string[]): Promise<{ exitCode: number; output: string }> {
  const shim = new URL('scripts/node20-globsync.mjs', projectRoot).href
  const cli = fileURLToPath(new URL('dist/index.js', packageRoot))
  const options = { env: cleanEnvironment(), maxBuffer: 64 * 1024 * 1024, timeout: suiteTimeoutMs }
  return new Promise((resolve, reject) => {
    const child = execFile(
      process.execPath,
      ['--import', shim, cli, ...args],
      options,
      (error, stdout, stderr) => {
        const output = `${stdout}\n${stderr}`
        if (child.exitCode === null)
          reject(new Error(`the suite did not end by itself: ${output}`, { cause: error }))
        else resolve({ exitCode: child.exitCode, output })
      },
    )
  })
}

/** The environment without what a test runner adds to node: its loaders and coverage would slow the suite's timing checks down. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const { NODE_OPTIONS: _options, NODE_V8_COVERAGE: _coverage, ...environment } = process.env
  return environment
}

async function readScenarios(outputDir: string): Promise<Map<string, readonly Check[]>> {
  const names = (await readdir(outputDir)).toSorted()
  const entries = names.map(async (name) => {
    const text = await readFile(join(outputDir, name, 'checks.json'), 'utf8')
    const scenario = name.replace(/^server-/, '').replace(/-\d{4}-\d\d-\d\dT[-\d]+Z$/, '')
    return [scenario, checksSchema.parse(JSON.parse(text))] as const
  })
  return new Map(await Promise.all(entries))
}
