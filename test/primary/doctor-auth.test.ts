/** What `check` and `doctor` say of authentication. */
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import t from 'tap'
import { stringify } from 'yaml'

import { startAuthorizationServer } from '../support/authorization-server.ts'
import { within } from '../support/eventually.ts'
import { freePort } from '../support/redis.ts'

const MAIN = fileURLToPath(new URL('../../src/primary/main.js', import.meta.url))
const LONG = 'a-token-of-more-than-16-characters'
const directory = await mkdtemp(join(tmpdir(), 'adapter-doctor-auth-'))
t.teardown(() => rm(directory, { recursive: true, force: true }))

const issuer = await startAuthorizationServer()
t.teardown(() => issuer.stop())
const jwt = { issuer: issuer.issuer, jwks_uri: issuer.jwksUri }

t.test('without authentication a warning says who can use the servers', async (t) => {
  const open = await doctor({ host: '0.0.0.0' })
  t.match(open.out, /^warning +authentication .*whoever reaches 0\.0\.0\.0:8932 can use every/m)
  const local = await doctor({ host: '127.0.0.1' })
  t.match(local.out, /^ok +authentication .*only this machine/m)
})

t.test('short tokens are named, not shown', async (t) => {
  const tokens = [
    { name: 'ci', token: 'short-secret' },
    { name: 'laptop', token: LONG },
  ]
  const { out } = await doctor({ auth: { enabled: true, tokens } })
  t.match(out, /^ok +authentication +2 static tokens/m)
  t.match(out, /^warning +authentication +tokens of token:ci are shorter than 16/m)
  t.notMatch(out, /short-secret|laptop/)
})

t.test('the keys of an issuer are read', async (t) => {
  const well = await doctor({ auth: { enabled: true, jwt } })
  t.match(well.out, /^ok +token keys +1 at http:/m)
  t.equal(well.code, 0, well.out)
  const gone = { ...jwt, jwks_uri: `http://127.0.0.1:${await freePort()}/keys` }
  const unreachable = await doctor({ auth: { enabled: true, jwt: gone } })
  t.match(unreachable.out, /^problem +token keys .*can not be read \(.*ECONNREFUSED.*answered 503/m)
  t.equal(unreachable.code, 1)
  issuer.serveKeys = (response) => {
    response.end('{"keys":[]}')
    return true
  }
  t.match((await doctor({ auth: { enabled: true, jwt } })).out, /^problem +token keys .*none/m)
})

t.test('an issuer that anybody on the way could stand in for is warned of', async (t) => {
  const remote = { issuer: 'http://idp.example', jwks_uri: 'https://idp.example/keys' }
  const { err } = await run('check', {
    public_base_url: undefined,
    auth: { enabled: true, jwt: { ...remote, audience: 'gateway' } },
  })
  t.match(err, /core\.auth\.jwt\.issuer is an http:/)
  t.notMatch(err, /jwks_uri is an http:/)
  t.match(err, /OAuth clients are told/)
})

function doctor(core: object): Promise<Ended> {
  return run('doctor', core)
}

interface Ended {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

async function run(command: 'check' | 'doctor', core: object): Promise<Ended> {
  const file = join(directory, 'config.yaml')
  const config = {
    core: { host: '127.0.0.1', public_base_url: 'https://mcp.example.com', ...core },
    storage: { root: join(directory, 'root') },
    servers: [{ id: 'srv', mount_path: '/mcp', upstream: { url: 'http://127.0.0.1:9/mcp' } }],
  }
  await writeFile(file, stringify(config))
  const child = spawn(process.execPath, [MAIN, command, '--config', file])
  let out = ''
  let err = ''
  child.stdout.on('data', (chunk) => (out += String(chunk)))
  child.stderr.on('data', (chunk) => (err += String(chunk)))
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  const code = await within(`${command} ends`, ended, 20_000).finally(() => child.kill('SIGKILL'))
  return { code, out, err }
}
