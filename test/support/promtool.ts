/** Runs promtool, which `npm test` provides. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'

import { within } from './eventually.ts'

/** Where scripts/setup.mjs puts it when it is not on the PATH. */
const TAKEN = '.programs/promtool'

/** Runs it on `input`; answers its exit code (0: nothing to complain of, 3: a matter of style) and what it printed. */
export async function promtool(
  args: readonly string[],
  input = '',
): Promise<{ readonly code: number | null; readonly output: string }> {
  const child = spawn(existsSync(TAKEN) ? TAKEN : 'promtool', args, {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  const exited = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  child.stdin.end(input)
  return { code: await within('promtool ends', exited, 60_000), output }
}
