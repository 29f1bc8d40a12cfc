// `npm test`: everything that the tests need, then the tests. Arguments go to tap: `npm test -- build/test/e2e/newcomer.test.js`.

import { spawn } from 'node:child_process'

import {
  ensureBuild,
  ensureDependencies,
  ensurePrograms,
  ensureTapPlugins,
  ensureTestBuild,
  packageProgram,
  projectRoot,
  runMain,
} from './setup.mjs'

await runMain(() => {
  ensureDependencies()
  ensurePrograms('chromium', 'redis-server', 'redis-cli', 'haproxy', 'promtool')
  ensureTapPlugins()
  ensureTestBuild()
  // The newcomer's test starts what `npm start` starts; compiled here, it is not compiled on that test's time.
  ensureBuild()
  const args = process.argv.slice(2)
  const tap = spawn(packageProgram('tap'), args, {
    cwd: projectRoot,
    stdio: 'inherit',
  })
  return new Promise((settle, reject) => {
    tap.once('error', reject)
    tap.once('close', (code) => settle(code ?? 1))
  })
})
