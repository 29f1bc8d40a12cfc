/** What the process asks of V8. */
import { spawnSync } from 'node:child_process'

import t from 'tap'

const ENGINE = new URL('../../src/primary/engine.js', import.meta.url).href

t.test('this V8 knows every flag that is set: it says so of those that it does not', (t) => {
  const script = `import { setUpEngine } from ${JSON.stringify(ENGINE)}; setUpEngine()`
  const ran = spawnSync(process.execPath, ['--input-type=module', '--eval', script], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'] },
  })
  t.equal(ran.stderr, '')
  t.equal(ran.status, 0)
  t.end()
})
