/** The way of somebody who has just cloned the repository: `npm start`, `npm run demo`, Ctrl-C. */
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { runScript } from '../support/script.ts'
import type { Script } from '../support/script.ts'

const folder = await mkdtemp(join(tmpdir(), 'adapter-newcomer-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))

t.test('npm start serves, the demo passes against it, and Ctrl-C ends everything', async (t) => {
  const start = runScript(t, 'start.mjs', { PORT: '0', ADAPTER_DATA: join(folder, 'data') })
  await eventually(
    'npm start says what to do next',
    () => start.hasEnded || start.output().includes('Ctrl-C stops everything.'),
    20_000,
  )
  const adapter = /adapter +(http:\/\/127\.0\.0\.1:(\d+))/.exec(start.output())
  const upstream = /report server +(http:\S+)/.exec(start.output())?.[1]
  const [, url, port] = adapter ?? []
  if (url === undefined || port === undefined || upstream === undefined) {
    throw new Error(`npm start did not say where things run:\n${start.output()}`)
  }
  t.match(start.output(), `claude mcp add --transport http report ${url}/mcp/report`)
  t.match(start.output(), `PORT=${port} npm run demo`)
  t.ok(existsSync(join(folder, 'data', 'state')), 'state is where it was told')

  const demo = runScript(t, 'demo.mjs', { PORT: port })
  t.equal(await within('the demo ends', demo.exited, 20_000), 0, 'the demo passes', output(demo))
  t.match(demo.output(), `Using the adapter that runs at ${url}`)
  t.match(demo.output(), /sales report\.md: \d+ bytes, the same as the resource/)

  start.child.kill('SIGINT')
  t.equal(await within('npm start ends', start.exited, 20_000), 0, 'no error', output(start))
  await t.rejects(fetch(url), 'the adapter is gone')
  await t.rejects(fetch(upstream), 'the upstream is gone')
})

t.test('the demo starts what it needs when nothing runs, and leaves nothing behind', async (t) => {
  const temporary = await mkdtemp(join(folder, 'tmp-'))
  const demo = runScript(t, 'demo.mjs', { PORT: '0', TMPDIR: temporary })
  t.equal(await within('the demo ends', demo.exited, 25_000), 0, 'the demo passes', output(demo))
  const url = /Connect to (http:\/\/\S+)/.exec(demo.output())?.[1] ?? ''
  await t.rejects(fetch(url), 'its adapter is gone')
  t.same(await readdir(temporary), [], 'its files are gone')
})

t.test('npm start names a port that is taken, and how to choose another one', async (t) => {
  const other = createServer()
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
  t.teardown(() => other.close())
  // A listening TCP server has an address of this type.
  const { port } = other.address() as AddressInfo
  const start = runScript(t, 'start.mjs', {
    PORT: String(port),
    ADAPTER_DATA: join(folder, 'none'),
  })
  t.equal(await within('npm start ends', start.exited, 20_000), 1)
  t.match(start.output(), `Port ${port} is in use`)
  t.match(start.output(), /PORT=\d+ npm start/)
  t.notOk(existsSync(join(folder, 'none')), 'nothing was started')
})

t.test('npm start passes arguments to the adapter alone, with its exit code', async (t) => {
  const start = runScript(t, 'start.mjs', {}, ['check', '--config', join(folder, 'missing.yaml')])
  const code = await within('the adapter ends', start.exited, 20_000)
  t.equal(code, 2, 'the exit code of a bad configuration', output(start))
  t.match(start.output(), 'missing.yaml')
})

/** For the report of a failed assertion. */
function output(script: Script): { readonly output: string } {
  return { output: script.output() }
}
