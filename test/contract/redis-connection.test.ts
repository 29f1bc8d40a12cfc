/** Every way to reach Redis that can be configured, on real servers: TLS, ACL users, Sentinel with a fail-over, Cluster. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import t from 'tap'
import type { Test } from 'tap'

import { parseConfig } from '../../src/shared/config/load.ts'
import { ConfigError } from '../../src/shared/config/problems.ts'
import { redisConnectionOptions } from '../../src/shared/state/redis/connection-options.ts'
import type { RedisConnectionOptions } from '../../src/shared/state/redis/connection.ts'
import type { RemoteStore } from '../../src/shared/state/remote.ts'
import { eventually } from '../support/eventually.ts'
import { ask, startRedis, startRedisCluster, startSentinel } from '../support/redis.ts'
import { CERTIFICATE, KEY } from '../worker/upstream-certificate.ts'
import { newKeyBase } from './redis-subject.ts'
import { startState } from './shared-state-subject.ts'
import type { RunningState } from './shared-state-subject.ts'
import { opened, uploaded } from './store-fixtures.ts'

t.setTimeout(600_000)

/** As docs/operations.md has it. */
const ACL_COMMANDS = '+@read +@write +@scripting +@pubsub +@connection +info +time'

/** What the configuration says, as connections are opened with. */
function configured(redis: object): RedisConnectionOptions {
  const text = JSON.stringify({
    state_persistence: { type: 'redis', redis: { command_timeout_seconds: 1, ...redis } },
    servers: [{ id: 'a', mount_path: '/a', upstream: { url: 'http://u/mcp' } }],
  })
  const { config } = parseConfig({ text, path: 'config.yaml', env: {} })
  return redisConnectionOptions(config.statePersistence.redis)
}

function start(t: Test, redis: object, keyBase = newKeyBase()): Promise<RunningState> {
  return startState(t, { connection: configured(redis), keyBase })
}

/** A whole life of a session, with what spans sessions. */
async function works(t: Test, running: RunningState): Promise<void> {
  const store = running.connect()
  await eventually('messages arrive', () => running.report().callsBack, 15_000)
  let called = 0
  running.connect().onInvalidate(() => called++)
  const before = await store.inventory()
  const session = await opened(store)
  await uploaded(store, session, 5)
  t.match(await store.inventory(), { sessions: before.sessions + 1, bytes: before.bytes + 5 })
  await store.closeSession(session)
  await eventually('others hear of it', () => called > 0)
  t.ok(running.report().isAvailable)
}

async function serves(store: RemoteStore, limitMs = 15_000): Promise<void> {
  await eventually(
    'requests succeed',
    () =>
      store.inventory().then(
        () => true,
        () => false,
      ),
    limitMs,
  )
}

t.test('TLS: what can be verified is trusted, and nothing else', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'redis-tls-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  const [certFile, keyFile] = [join(directory, 'cert.pem'), join(directory, 'key.pem')]
  await writeFile(certFile, CERTIFICATE)
  await writeFile(keyFile, KEY)
  const redis = await startRedis(t, {
    tls: { certFile, keyFile, caFile: certFile },
    args: ['--tls-auth-clients', 'yes'],
  })
  const client = { cert_file: certFile, key_file: keyFile }
  const at = { host: '127.0.0.1', port: redis.port }
  await works(t, await start(t, { ...at, tls: { ca_file: certFile, ...client } }))
  await works(
    t,
    await start(t, { ...at, tls: { ca_file: certFile, server_name: 'localhost', ...client } }),
  )
  await works(t, await start(t, { ...at, tls: client, tls_insecure: true }))

  for (const [why, settings, message] of [
    ['an authority that is not known', { tls: client }, /self-signed certificate/],
    [
      'a name that is not in the certificate',
      { tls: { ca_file: certFile, server_name: 'redis.example', ...client } },
      /redis\.example/,
    ],
    [
      'no certificate for the server',
      { tls: { ca_file: certFile } },
      /certificate required|closed/,
    ],
    ['no TLS', {}, /.*/],
  ] as const) {
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    const running = await start(t, { ...at, ...settings })
    t.equal(running.report().isAvailable, false, why)
    t.match(running.failures.join(), message, why)
  }

  const missing = join(directory, 'missing.pem')
  const problems: readonly (readonly [object, RegExp])[] = [
    [{ ca_file: missing }, /missing\.pem: state_persistence\.redis\.tls\.ca_file .*ENOENT/],
    [{ ca_file: fileURLToPath(import.meta.url) }, /ca_file is no PEM file/],
    [{ cert_file: certFile, key_file: certFile }, /key_file can't be used/],
  ]
  for (const [tls, message] of problems) {
    t.throws(() => configured({ ...at, tls }), ConfigError)
    t.throws(() => configured({ ...at, tls }), { message })
  }
})

t.test('an ACL user needs no more than its own keys and channels', async (t) => {
  const redis = await startRedis(t)
  const keyBase = newKeyBase()
  await ask(
    redis.port,
    ...`acl setuser adapter on >s3cret ~${keyBase}:* &${keyBase}:* -@all ${ACL_COMMANDS}`.split(
      ' ',
    ),
  )
  await ask(redis.port, 'acl', 'setuser', 'default', 'off')
  const at = { host: '127.0.0.1', port: redis.port, db: 0 }
  await works(t, await start(t, { ...at, username: 'adapter', password: 's3cret' }, keyBase))
  const refused = await start(t, { ...at, username: 'adapter', password: 'wrong' }, keyBase)
  t.match(refused.failures.join(), /WRONGPASS/)
  const foreign = await start(t, { ...at, username: 'adapter', password: 's3cret' })
  t.match(foreign.failures.join(), /NOPERM|No permissions/, 'another key base is out of its reach')
})

t.test('another database of the server is another state', async (t) => {
  const redis = await startRedis(t)
  const keyBase = newKeyBase()
  const at = { host: '127.0.0.1', port: redis.port }
  const one = (await start(t, { ...at, db: 1 }, keyBase)).connect()
  const two = (await start(t, { ...at, db: 2 }, keyBase)).connect()
  const session = await opened(one)
  t.ok(await one.readSession(session))
  t.equal(await two.readSession(session), undefined)
})

t.test('Sentinel: after a fail-over the new master is used, without a restart', async (t) => {
  const group = await startSentinel(t, { sentinels: 1, downAfterMs: 500 })
  const nodes = group.sentinels.map(({ port }) => `127.0.0.1:${port}`)
  const running = await start(t, { sentinel: { master_name: group.name, nodes } })
  const store = running.connect()
  await works(t, running)
  const session = await opened(store)

  // The old master stays there, as a follower that refuses writes; test/e2e has one that is killed.
  const before = await group.master()
  await replicated(before.port)
  await ask(group.sentinels[0]?.port ?? 0, 'sentinel', 'failover', group.name)
  await eventually('there is a new master', async () => (await group.master()) !== before, 20_000)
  await eventually(
    'the old one follows',
    // One that is just told to follow may close the connection that asks.
    async () => (await ask(before.port, 'role').catch(() => []))[0] === 'slave',
    20_000,
  )
  await serves(store)
  t.match(await store.readSession(session), { record: session })
  await works(t, running)
})

t.test('Cluster: sessions are spread over members, and every verb finds its own', async (t) => {
  const members = await startRedisCluster(t)
  const [first] = members
  const keyBase = newKeyBase()
  const running = await start(t, { cluster: { nodes: [`127.0.0.1:${first?.port}`] } }, keyBase)
  await works(t, running)
  const store = running.connect()
  for (let count = 0; count < 30; count++) {
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await uploaded(store, await opened(store), 1)
  }
  t.match(await store.inventory(), { sessions: 30, uploads: 30, bytes: 30 })
  const counts = await Promise.all(
    members.map(async ({ port }) => (await ask(port, 'keys', `${keyBase}:{s:*`)).length),
  )
  t.ok(
    counts.every((count) => count > 1),
    `keys of each member: ${counts.join(', ')}`,
  )

  for (const member of members) {
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await member.restart({ keepData: true })
  }
  await serves(store, 30_000)
  await works(t, running)
})

/** Waits until followers have everything: a fail-over loses what they have not. */
async function replicated(port: number): Promise<void> {
  await eventually('a follower has everything', async () => {
    const [count] = await ask(port, 'wait', '1', '1000')
    return Number(count) >= 1
  })
}
