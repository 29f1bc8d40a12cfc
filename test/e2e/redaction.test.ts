/** No secret is written or told, on the paths where it is nearest: what fails with it in hand, at the most talkative log level. */
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import t from 'tap'
import { stringify } from 'yaml'

import { eventually, within } from '../support/eventually.ts'
import { ask, freePort, startRedis } from '../support/redis.ts'
import { startReplica } from '../support/replica.ts'
import {
  findLeaks,
  leaksIn,
  noteAnswer,
  noteConfig,
  noted,
  noteSecrets,
  watchOutput,
} from '../support/secret-scan.ts'
import { startFileServer, fileServerSection } from '../support/upstreams/file-server.ts'
import { startScriptedUpstream } from '../support/upstreams/scripted-upstream.ts'
import { initialize, POST_HEADERS, send, WireSession } from '../support/wire.ts'

t.setTimeout(600_000)

const MAIN = fileURLToPath(new URL('../../src/primary/main.js', import.meta.url))
const directory = await mkdtemp(join(tmpdir(), 'adapter-redaction-'))
t.teardown(() => rm(directory, { recursive: true, force: true }))

const TOKEN = 'client-token-0123456789'
const AUTH = { 'x-gateway-key': TOKEN }

/** Everything secret that a configuration can hold. */
function secretConfig(upstreamUrl: string): { core: object; servers: object[] } {
  return {
    core: {
      workers: 1,
      log_level: 'debug',
      allow_artifacts_download: true,
      auth: {
        enabled: true,
        header_name: 'X-Gateway-Key',
        token: TOKEN,
        signing_secret: 'signing-secret-"quoted"-0123',
      },
    },
    servers: [
      {
        id: 'secretive',
        mount_path: '/mcp/secretive',
        upstream: {
          url: upstreamUrl,
          static_headers: { 'X-Upstream-Key': 'static-header-value-1' },
          client_headers: { passthrough: ['X-Personal-Key'] },
        },
      },
    ],
  }
}

async function run(command: string, config: object | string): Promise<string> {
  const path = join(await mkdtemp(join(directory, 'run-')), 'config.yaml')
  await writeFile(path, typeof config === 'string' ? config : stringify(config))
  noteConfig(config)
  const child = spawn(process.execPath, [MAIN, command, '--config', path], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  watchOutput(command, () => output)
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk) => (output += String(chunk)))
  await within(
    `${command} ends`,
    new Promise((resolve) => child.once('close', resolve)),
    60_000,
  ).finally(() => child.kill('SIGKILL'))
  return output
}

t.test('the search finds what it is there to find', async (t) => {
  noted('known-to-the-search')
  for (const text of [
    'x known-to-the-search y',
    `session ${'aB3-'.repeat(8)} opened`,
    `mac ${'0a'.repeat(32)}`,
    '?mcp_upload_nonce=abc',
    'http://me:you@host/',
    'Authorization: Bearer abcdef123',
    '-----BEGIN EC PRIVATE KEY-----',
  ])
    t.equal(leaksIn('a text', text).length > 0, true, text)
  for (const text of ['http://<redacted>@host/', 'aB3-aB…', 'mcp_upload_nonce=<redacted>'])
    t.same(leaksIn('a text', text), [])
})

t.test('a password that Redis refuses is not written by a start, doctor or check', async (t) => {
  const redis = await startRedis(t, { args: ['--requirepass', 'the-right-password'] })
  const config = {
    ...secretConfig('http://someone:upstream-password@127.0.0.1:9/mcp?api_key=key-in-query'),
    storage: { root: join(directory, 'refused') },
    state_persistence: {
      type: 'redis',
      unavailable_policy: 'exit',
      redis: {
        host: '127.0.0.1',
        port: redis.port,
        password: 'the-wrong-password',
        connect_timeout_seconds: 1,
      },
    },
  }
  noteSecrets(['upstream-password', 'key-in-query'])
  t.match(await run('doctor', config), /WRONGPASS/, 'doctor says that it was refused')
  t.match(await run('check', config), /password: <redacted>/, 'check prints that there is one')
  t.match(await run('serve', config), /can not be reached|WRONGPASS/, 'a start says why it failed')
  t.same(findLeaks(), [])
})

t.test('a configuration with mistakes is told about without its secrets', async (t) => {
  noteSecrets(['secret-in-bad-yaml', 'secret-in-bad-url'])
  const texts = [
    'core:\n  auth: {token: secret-in-bad-yaml\n servers: ]',
    'core:\n  auth:\n    token: [secret-in-bad-yaml]\n    tokenn: secret-in-bad-yaml\nservers: []',
    'core: {public_base_url: "https://me:secret-in-bad-url@h/"}\nservers: []',
    'servers: [{id: a, mount_path: /a, upstream: {url: "ftp://me:secret-in-bad-url@h/"}}]',
    'servers: [{id: a, mount_path: /a, upstream: {url: "http://h", static_headers: {"X Y": secret-in-bad-yaml}}}]',
    'state_persistence: {type: redis, redis: {host: r, password: {a: secret-in-bad-yaml}}}\nservers: []',
  ]
  for (const text of texts) t.not(await run('check', text), '', 'something is said')
  t.same(findLeaks(), [])
})

t.test('an upstream that refuses, and clients that are refused, leave no secret', async (t) => {
  const port = await freePort()
  const scripted = await startScriptedUpstream({ port })
  const files = await startFileServer({ workspace: directory })
  const { core, servers } = secretConfig(
    `http://someone:upstream-password@127.0.0.1:${port}/mcp?api_key=key-in-query`,
  )
  noteSecrets(['upstream-password', 'key-in-query', 'personal-value', 'wrong-token-987654'])
  const replica = await startReplica({
    config: { core, servers: [...servers, fileServerSection(files.url, directory)] },
  })
  t.teardown(async () => {
    await replica.stop()
    await files.stop()
  })
  const url = `${replica.url}/mcp/secretive`
  const answers: string[] = []
  const session = await WireSession.open(url, {
    headers: { ...AUTH, 'x-personal-key': 'personal-value' },
  })
  await scripted.stop()
  answers.push((await session.call('anything')).body)
  answers.push((await session.delete()).body)
  await eventually('the end of a session that failed upstream is logged', () =>
    replica.logs().includes('ECONNREFUSED'),
  )
  for (const headers of [{ 'x-gateway-key': 'wrong-token-987654' }, {}])
    answers.push((await initialize(url, '2025-06-18', headers)).body)
  answers.push((await initialize(url, '2025-06-18', AUTH)).body)

  const owner = await WireSession.open(`${replica.url}/mcp/files`, { headers: AUTH })
  const given = await owner.call('files_get_upload_url')
  const upload = /"upload_url":"([^"]+)"/.exec(given.body)?.[1] ?? ''
  const report = await owner.call('write_report', { filename: 'r.txt', content: 'x' })
  const download = /"download_url":"([^"]+)"/.exec(report.body)?.[1] ?? ''
  noteAnswer(report.body)
  t.ok(upload.includes('mcp_upload_sig') && download.includes('mcp_artifact_sig'))
  for (const bad of [
    upload.replace(/.$/, (last) => (last === '0' ? '1' : '0')),
    upload.replace(/exp=\d/, 'exp=9'),
    upload.replace(owner.id, 'B'.repeat(32)),
  ])
    answers.push((await send(bad, { method: 'PUT', body: 'x' })).body)
  answers.push((await send(download.replace(/.$/, '!'), { method: 'GET' })).body)
  const foreign = { ...POST_HEADERS, ...AUTH, 'mcp-session-id': noted('C'.repeat(31) + 'd') }
  answers.push(
    (await send(url, { headers: foreign, body: '{"jsonrpc":"2.0","id":1,"method":"ping"}' })).body,
  )

  // What the file system says names the session's directory.
  await rm(join(replica.root, 'sessions'), { recursive: true, force: true })
  answers.push((await send(download, { method: 'GET' })).body)
  await writeFile(join(replica.root, 'sessions'), 'in the way')
  answers.push((await send(upload, { method: 'PUT', body: 'x' })).body)
  await eventually('refusals are logged', () =>
    ['upload refused', 'download refused', 'ENOTDIR'].every((part) =>
      replica.logs().includes(part),
    ),
  )
  for (const path of ['/healthz', '/readyz', '/livez'])
    answers.push((await send(replica.url + path, { method: 'GET' })).body)

  t.ok(answers.filter((answer) => answer !== '').length > 10, 'most of them are told something')
  t.same(leaksIn('answers', answers.join('\n')), [], 'and none of it is secret')
  t.same(findLeaks(), [], 'as nothing of what is logged')
})

t.test(
  'a Redis that goes away, stalls and comes back with another password is told of without secrets',
  async (t) => {
    const redis = await startRedis(t, { args: ['--requirepass', 'password-for-redis'] })
    const scripted = await startScriptedUpstream()
    const replica = await startReplica({
      config: {
        ...secretConfig(scripted.url),
        state_persistence: {
          type: 'redis',
          redis: { host: '127.0.0.1', port: redis.port, password: 'password-for-redis' },
        },
      },
    })
    t.teardown(async () => {
      await replica.stop()
      await scripted.stop()
    })
    const session = await WireSession.open(`${replica.url}/mcp/secretive`, { headers: AUTH })
    redis.pause()
    const answer = await session.request('tools/list')
    t.ok([200, 503].includes(answer.status))
    redis.resume()
    await ask(
      redis.port,
      '-a',
      'password-for-redis',
      'config',
      'set',
      'requirepass',
      'changed-password',
    )
    await ask(redis.port, '-a', 'changed-password', 'client', 'kill', 'type', 'normal')
    await eventually('the loss is logged', () => /WRONGPASS|NOAUTH/.test(replica.logs()))
    const health = await send(`${replica.url}/healthz`, { method: 'GET' })
    noteSecrets(['changed-password'])
    t.same(leaksIn('answers', answer.body + health.body), [])
    t.same(findLeaks(), [])
  },
)
