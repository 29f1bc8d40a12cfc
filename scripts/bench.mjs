// npm run bench [-- --quick --only P1,P5]: measures the adapter on this machine and writes docs/benchmarks.md.
import { spawn } from 'node:child_process'
import { join } from 'node:path'

import { ensureDependencies, ensureTestBuild, projectRoot, runMain } from './setup.mjs'

await runMain(() => {
  ensureDependencies()
  ensureTestBuild()
  const script = join(projectRoot, 'build', 'bench', 'run.js')
  const child = spawn(process.execPath, [script, ...process.argv.slice(2)], {
    cwd: projectRoot,
    stdio: 'inherit',
  })
  return new Promise((resolve) => {
    child.once('exit', (code) => resolve(code ?? 1))
  })
})
