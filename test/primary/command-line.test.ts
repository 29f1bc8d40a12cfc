/** The command line: what it prints, and how it exits. */
import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { stringify } from 'yaml'

import { eventually, within } from '../support/eventually.ts'
import { noteConfig, noteSecrets, watchOutput } from '../support/secret-scan.ts'
import { FileRig } from '../support/file-rig.ts'

t.setTimeout(600_000)

const MAIN = fileURLToPath(new URL('../../src/primary/main.js', import.meta.url))
const directory = await mkdtemp(join(tmpdir(), 'adapter-cli-'))
t.teardown(() => rm(directory, { recursive: true, force: true }))

interface Ended {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** Runs the command to its end. */
async function run(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  cwd = directory,
): Promise<Ended> {
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd,
    env: { PATH: process.env['PATH'], ...env },
  })
  let [out, err] = ['', '']
  watchOutput(args.join(' '), () => out + err)
  noteSecrets(Object.values(env))
  child.stdout.on('data', (chunk) => (out += String(chunk)))
  child.stderr.on('data', (chunk) => (err += String(chunk)))
  const code = await within<number | null>(
    `${args.join(' ')} ends`,
    new Promise((resolve) => child.once('close', resolve)),
    20_000,
  ).finally(() => child.kill('SIGKILL'))
  return { code, out, err }
}

async function configFile(name: string, config: object): Promise<string> {
  const path = join(directory, name)
  await writeFile(path, stringify(config))
  noteConfig(config)
  return path
}

const server = {
  id: 'files',
  mount_path: '/mcp/files',
  upstream: {
    url: 'http://127.0.0.1:9/mcp',
    static_headers: { Authorization: 'Bearer static-secret' },
  },
}
const good = {
  core: {
    host: '127.0.0.1',
    auth: { enabled: true, token: 'token-secret', signing_secret: 'signing-secret' },
  },
  storage: { root: join(directory, 'data') },
  servers: [server],
}

t.test('--help and --version answer on standard output and exit 0', async (t) => {
  for (const args of [['--help'], ['-h'], ['serve', '--help']]) {
    const ended = await run(args)
    t.match(ended, { code: 0, err: '' }, args.join(' '))
    t.match(ended.out, /Usage\n.*\[serve\].*--config.*\n.*check/)
    t.match(ended.out, /Exit codes: 0 .* 1 .* 2 .* 64 /)
  }
  const version = await run(['--version'])
  t.match(version, { code: 0, err: '', out: /^\d+\.\d+\.\d+\n$/ })
})

t.test('wrong arguments exit 64 with what is wrong and how it is meant', async (t) => {
  for (const [args, why] of [
    [['--no-such-option'], /no-such-option/],
    [['start'], /unknown command: start/],
    [['serve', 'now'], /unexpected argument: now/],
    [['--port', 'http'], /--port takes a number/],
    [['--port', '65536'], /--port takes a number/],
    [['--port', '-1'], /port/],
    [['--log-level', 'loud'], /--log-level takes one of debug, info, warning, error, critical/],
    [['--config'], /config/],
    [['check', '--version=yes'], /version/],
  ] as const) {
    const ended = await run(args)
    t.equal(ended.code, 64, args.join(' '))
    t.match(ended.err, why)
    t.match(ended.err, /Usage/)
    t.equal(ended.out, '')
  }
})

t.test('check prints the effective configuration with every secret masked', async (t) => {
  const path = await configFile('good.yaml', good)
  for (const [args, env] of [
    [['check', '--config', path], {}],
    [['--config', path, 'check'], {}],
    [['check'], { MCP_ADAPTER_CONFIG: path }],
  ] as const) {
    const ended = await run(args, env)
    t.equal(ended.code, 0, ended.err)
    t.match(ended.out, /mount_path: \/mcp\/files/)
    t.match(ended.out, /port: 8932/, 'defaults are filled in')
    t.notMatch(ended.out + ended.err, /token-secret|signing-secret|static-secret/)
  }
  const interpolated = await configFile('env.yaml', {
    ...good,
    core: { ...good.core, auth: { enabled: true, token: '${THE_TOKEN}' } },
  })
  const ended = await run(['check', '--config', interpolated], {
    THE_TOKEN: 'from-the-environment',
  })
  t.equal(ended.code, 0, ended.err)
  t.notMatch(ended.out + ended.err, /from-the-environment/)
  t.notMatch(ended.err + ended.out, /undefined/)
})

t.test(
  'a bad or missing configuration exits 2, for check and serve alike, and says where to look',
  async (t) => {
    const bad = await configFile('bad.yaml', {
      ...good,
      core: { hots: 'x', port: 0 },
      servers: [{ ...server, id: 'a/b' }],
    })
    await writeFile(join(directory, 'broken.yaml'), 'core: [\nservers: }')
    for (const command of ['check', 'serve']) {
      const ended = await run([command, '--config', bad])
      t.equal(ended.code, 2)
      t.match(ended.err, /core\.hots[\s\S]*host/, 'the nearest known name')
      t.match(ended.err, /servers\[0\]\.id/)
      t.match(ended.err, /\d+:\d+|line \d+/, 'with its place')
      t.notMatch(ended.err, /at .*\.js:\d+/, 'and no stack')
      const missing = await run([command, '--config', join(directory, 'nowhere.yaml')])
      t.match(missing, { code: 2, err: /nowhere\.yaml/ })
      const broken = await run([command, '--config', join(directory, 'broken.yaml')])
      t.match(broken, { code: 2, err: /broken\.yaml/ })
    }
    const empty = join(directory, 'empty')
    await mkdir(empty)
    const none = await run([], {}, empty)
    t.equal(none.code, 2)
    t.match(none.err, /config\.yaml/, 'the places that were looked at')
    t.match(none.err, /--config|MCP_ADAPTER_CONFIG/, 'and how to name another')
  },
)

t.test('a start that fails exits 1 with the reason in one line', async (t) => {
  const taken = createServer()
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
  const address = taken.address()
  const port = String(typeof address === 'object' ? address?.port : '')
  const path = await configFile('start.yaml', good)
  const ended = await run(['serve', '--config', path, '--port', port])
  taken.close()
  t.equal(ended.code, 1)
  t.match(ended.err, `can't listen on 127.0.0.1:${port}`)
  t.match(ended.err, /in use/)
  t.notMatch(ended.err, /at .*\.js:\d+/, 'no stack')
  await writeFile(join(directory, 'a-file'), '')
  const nowhere = await configFile('nowhere.yaml', {
    ...good,
    storage: { root: join(directory, 'a-file', 'data') },
  })
  const unwritable = await run(['serve', '--config', nowhere, '--port', '0'])
  t.match(unwritable, { code: 1, err: /a-file/ }, 'a storage root that can not be')
  const second = await FileRig.start()
  const same = await configFile('same.yaml', { ...good, storage: { root: second.replica.root } })
  const beside = await run(['serve', '--config', same, '--port', '0'])
  t.equal(beside.code, 1, 'a second process on the same state')
  t.match(beside.err, /in use|another|lock/i)
  await second.stop()
})

t.test('SIGINT does the same as SIGTERM', async (t) => {
  const path = await configFile('signals.yaml', good)
  const child = spawn(process.execPath, [MAIN, '--config', path, '--port', '0'], { cwd: directory })
  const exited = new Promise<unknown>((resolve) =>
    child.once('exit', (code, signal) => resolve(code ?? signal)),
  )
  let out = ''
  child.stdout.on('data', (chunk) => (out += String(chunk)))
  await eventually('it listens', () => out.includes('listening on 127.0.0.1:'))
  child.kill('SIGINT')
  t.equal(await within('it ends', exited), 0)
})
