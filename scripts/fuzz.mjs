// npm run fuzz [-- --minutes 60 --seed 1 --cpu 0.3]: fuzzes the HTTP surface of an adapter on this machine.
import { spawn } from 'node:child_process'
import { join } from 'node:path'

import { ensureDependencies, ensureTestBuild, projectRoot, runMain } from './setup.mjs'

await runMain(() => {
  ensureDependencies()
  ensureTestBuild()
  const script = join(projectRoot, 'build', 'test', 'fuzz', 'run.js')
  const child = spawn(process.execPath, [script, ...process.argv.slice(2)], {
    cwd: projectRoot,
    stdio: 'inherit',
  })
  return new Promise((resolve) => {
    child.once('exit', (code) => resolve(code ?? 1))
  })
})
