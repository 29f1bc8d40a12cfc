/** The scripts of package.json as people run them. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import type { Test } from 'tap'

import { watchOutput } from './secret-scan.ts'

const SCRIPTS = fileURLToPath(new URL('../../../scripts/', import.meta.url))

/** A running script. */
export interface Script {
  readonly child: ChildProcess
  /** What it printed, on both outputs. */
  output(): string
  /** Resolves with the exit code. */
  readonly exited: Promise<number | null>
  readonly hasEnded: boolean
}

/** Starts `scripts/<name>`; killed when the test ends. */
export function runScript(
  t: Test,
  name: string,
  env: Readonly<Record<string, string>>,
  args: readonly string[] = [],
): Script {
  const child = spawn(process.execPath, [join(SCRIPTS, name), ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  let output = ''
  // The demo is a client: it prints what it was given.
  if (name !== 'demo.mjs') watchOutput(name, () => output)
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  const exited = new Promise<number | null>((resolve) => {
    child.once('close', (code) => resolve(code))
  })
  return {
    child,
    output: () => output,
    exited,
    get hasEnded() {
      return child.exitCode !== null || child.signalCode !== null
    },
  }
}
