/** `doctor`, `check` and the guard rails of a start: each risk is named, with what to do about it. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import t, { type Test } from 'tap'
import { stringify } from 'yaml'

import { checkClocks } from '../../src/primary/doctor/redis-checks.ts'
import { openCommands } from '../../src/shared/state/redis/connection.ts'
import { eventually, within } from '../support/eventually.ts'
import { connectionTo } from '../contract/watching-replica.ts'
import { ask, freePort, startRedis, startRedisCluster, startSentinel } from '../support/redis.ts'
import { startReplica } from '../support/replica.ts'
import { noteConfig, watchOutput } from '../support/secret-scan.ts'

t.setTimeout(600_000)

const MAIN = fileURLToPath(new URL('../../src/primary/main.js', import.meta.url))
const directory = await mkdtemp(join(tmpdir(), 'adapter-doctor-'))
t.teardown(() => rm(directory, { recursive: true, force: true }))

const server = (id: string, upstream: object) => ({ id, mount_path: `/${id}`, upstream })
const stdio = (id: string, command: string, more = {}) =>
  server(id, { transport: 'stdio', command, ...more })

const DURABLE = ['--appendonly', 'yes'] as const

interface Parts {
  readonly core?: object
  readonly storage?: object
  readonly redis?: object
  readonly state?: object
}

/** Nothing to complain of but what a test changes. */
async function configOf(parts: Parts): Promise<Readonly<Record<string, object>>> {
  const root = await mkdtemp(join(directory, 'root-'))
  return {
    core: { host: '127.0.0.1', public_base_url: 'https://mcp.example.com', ...parts.core },
    storage: { root, ...parts.storage },
    state_persistence: {
      type: 'redis',
      redis: { host: '127.0.0.1', connect_timeout_seconds: 2, ...parts.redis },
      ...parts.state,
    },
    servers: [{ id: 'srv', mount_path: '/mcp', upstream: { url: 'http://127.0.0.1:9/mcp' } }],
  }
}

t.test(
  'doctor looks for each upstream, and for the program of one that it would start',
  async (t) => {
    const listener = createServer((socket) => socket.destroy())
    listener.listen(0, '127.0.0.1')
    await once(listener, 'listening')
    t.teardown(() => listener.close())
    const address = listener.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    const good = [server('near', { url: `http://127.0.0.1:${port}/mcp` }), stdio('found', 'node')]
    const core = { host: '127.0.0.1' }
    const fine = await run('doctor', { core, storage: { root: directory }, servers: good })
    t.equal(fine.code, 0, fine.out)
    t.match(
      fine.out,
      new RegExp(`^ok +upstream +near: its upstream listens at 127.0.0.1:${port}$`, 'm'),
    )
    t.match(fine.out, /^ok +upstream +found: its program is \/.*\/node$/m)
    const bad = [
      server('away', { url: `http://127.0.0.1:${await freePort()}/mcp` }),
      stdio('glued', 'node server.js'),
      stdio('lost', 'no-such-program'),
      stdio('elsewhere', './node', { cwd: directory }),
    ]
    const sick = await run('doctor', { core, storage: { root: directory }, servers: bad })
    t.equal(sick.code, 1)
    t.match(sick.out, /^warning +upstream +away: .*ECONNREFUSED.*servers\[away\]\.upstream\.url$/m)
    t.match(sick.out, /^problem +upstream +glued: .*belong into upstream\.args$/m)
    t.match(sick.out, /^problem +upstream +lost: there is no program no-such-program/m)
    t.match(sick.out, /^problem +upstream +elsewhere: /m)
  },
)

interface Ended {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

async function run(command: string, config: object): Promise<Ended> {
  const path = join(await mkdtemp(join(directory, 'config-')), 'config.yaml')
  await writeFile(path, stringify(config))
  noteConfig(config)
  const child = spawn(process.execPath, [MAIN, command, '--config', path])
  let [out, err] = ['', '']
  watchOutput(command, () => out + err)
  child.stdout.on('data', (chunk) => (out += String(chunk)))
  child.stderr.on('data', (chunk) => (err += String(chunk)))
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  const code = await within(`${command} ends`, ended, 20_000).finally(() => child.kill('SIGKILL'))
  return { code, out, err }
}

async function doctor(parts: Parts): Promise<Ended> {
  return run('doctor', await configOf(parts))
}

function linesOf({ out }: Ended, level: 'ok' | 'warning' | 'problem'): string[] {
  return out.split('\n').filter((line) => line.startsWith(level))
}

t.test(
  'where all is well every line is ok, the exit code is 0, and nothing is left behind',
  async (t) => {
    const redis = await startRedis(t, { args: DURABLE })
    const config = await configOf({ redis: { port: redis.port } })
    const ended = await run('doctor', config)
    t.equal(ended.code, 0, ended.out + ended.err)
    t.strictSame(linesOf(ended, 'problem'), [])
    // The roots of tests are in the directory for temporary files.
    t.match(linesOf(ended, 'warning'), [/shared root .* temporary files/])
    for (const subject of ['public address', 'storage root', 'redis version', 'redis eviction']) {
      t.match(ended.out, new RegExp(`^ok +${subject}`, 'm'))
    }
    t.match(ended.out, /^ok +replicas +none is running/m)
    t.same(await ask(redis.port, 'keys', '*'), [''])
    const { root } = config['storage'] as { root: string }
    t.same(await readdir(root), [])
  },
)

t.test('a policy that evicts is a problem when there is a limit, and else a warning', async (t) => {
  const limits = ['--maxmemory', '100mb', '--maxmemory-policy', 'allkeys-lru']
  const redis = await startRedis(t, { args: [...DURABLE, ...limits] })
  const full = await doctor({ redis: { port: redis.port } })
  t.equal(full.code, 1)
  t.match(linesOf(full, 'problem'), [
    /redis eviction .*allkeys-lru.* set maxmemory-policy to noeviction/,
  ])
  await ask(redis.port, 'config', 'set', 'maxmemory', '0')
  const unlimited = await doctor({ redis: { port: redis.port } })
  t.equal(unlimited.code, 0)
  t.match(unlimited.out, /^warning +redis eviction .*allkeys-lru/m)
})

t.test('a Redis without persistence, or with snapshots only, is warned of', async (t) => {
  const redis = await startRedis(t)
  t.match((await doctor({ redis: { port: redis.port } })).out, /^warning +redis persistence +off/m)
  await ask(redis.port, 'config', 'set', 'save', '60 1')
  const snapshots = await doctor({ redis: { port: redis.port } })
  t.match(snapshots.out, /^warning +redis persistence +only snapshots \(save 60 1\)/m)
})

t.test('a wrong password and a host that does not answer are told apart', async (t) => {
  const redis = await startRedis(t, { args: ['--requirepass', 'right'] })
  const wrong = await doctor({ redis: { port: redis.port, password: 'wrong-password' } })
  t.equal(wrong.code, 1)
  t.match(linesOf(wrong, 'problem'), [/redis .*WRONGPASS.*check .*password/])
  t.notMatch(wrong.out + wrong.err, /wrong-password/)
  const none = await doctor({ redis: { port: redis.port } })
  t.match(linesOf(none, 'problem'), [/redis .*NOAUTH.*check .*password/])
  const nobody = await doctor({ redis: { port: await freePort() } })
  t.equal(nobody.code, 1)
  t.match(linesOf(nobody, 'problem'), [/redis .*ECONNREFUSED.*check that it runs/])
  const silent = createServer(() => {})
  t.teardown(() => silent.close())
  const port = await freePort()
  await new Promise<void>((resolve) => silent.listen(port, '127.0.0.1', resolve))
  const stuck = await doctor({ redis: { port, connect_timeout_seconds: 1 } })
  t.equal(stuck.code, 1)
  t.match(linesOf(stuck, 'problem'), [/redis .*127\.0\.0\.1:\d+ can't be used/])
})

t.test('rights that are missing are named, for questions as warnings', async (t) => {
  const redis = await startRedis(t, { args: DURABLE })
  const may = async (...rules: string[]): Promise<Ended> => {
    await ask(redis.port, 'acl', 'setuser', 'user', 'reset', 'on', '>pw', ...rules)
    return doctor({ redis: { port: redis.port, username: 'user', password: 'pw' } })
  }
  const keysAndChannels = ['~mcp_remote_adapter:*', '&mcp_remote_adapter:*']
  const groups = ['@read', '@write', '@scripting', '@pubsub', '@connection'].map(
    (name) => `+${name}`,
  )
  // As docs/operations.md has it.
  const everything = [...keysAndChannels, '-@all', ...groups, '+time']
  const enough = await may(...everything, '+info')
  t.equal(enough.code, 0, enough.out)
  t.strictSame(linesOf(enough, 'problem'), [])
  const mute = await may(...everything)
  t.equal(mute.code, 0, mute.out)
  t.match(mute.out, /^warning +redis version .*INFO.*\+info/m)
  t.match(mute.out, /^warning +redis eviction .*CONFIG GET.*noeviction/m)
  const keys = await may('~other:*', '&mcp_remote_adapter:*', '+@all')
  t.equal(keys.code, 1)
  t.match(keys.out, /^problem +redis keys .*mcp_remote_adapter:/m)
  const channels = await may('~*', '+@all')
  t.equal(channels.code, 1)
  t.match(channels.out, /^problem +redis messages .*NOPERM/m)
})

t.test('a copy of another Redis, and one that is too old, are problems', async (t) => {
  const master = await startRedis(t, { args: DURABLE })
  const copy = await startRedis(t, { args: ['--replicaof', '127.0.0.1', String(master.port)] })
  const readOnly = await doctor({ redis: { port: copy.port } })
  t.equal(readOnly.code, 1)
  t.match(readOnly.out, /^problem +redis role .*sentinel/m)
  const port = await proxyThatSays(t, master.port, [
    /redis_version:[\d.]+/g,
    'redis_version:6.0.16',
  ])
  const old = await doctor({ redis: { port } })
  t.equal(old.code, 1)
  t.match(linesOf(old, 'problem'), [/redis version .*6\.0\.16.*6\.2/])
})

t.test(
  'of a Cluster every master is looked at, and of Sentinels the master that they name',
  async (t) => {
    const servers = await startRedisCluster(t, 3, DURABLE)
    const nodes = servers.map(({ port }) => `127.0.0.1:${port}`)
    const cluster = await doctor({ redis: { host: null, cluster: { nodes } } })
    t.equal(cluster.code, 0, cluster.out)
    for (const node of nodes)
      t.match(cluster.out, new RegExp(`^ok +redis eviction of ${node}`, 'm'))
    t.match(cluster.out, /^ok +redis messages/m)
    const sentinels = await startSentinel(t, { args: DURABLE, sentinels: 1, replicas: 1 })
    const redis = {
      host: null,
      sentinel: {
        master_name: sentinels.name,
        nodes: sentinels.sentinels.map(({ port }) => `127.0.0.1:${port}`),
      },
    }
    const named = await doctor({ redis })
    t.equal(named.code, 0, named.out)
    t.match(named.out, /^ok +redis +answers at the master main of the Sentinels/m)
    const nobody = { ...redis.sentinel, master_name: 'nobody' }
    const lost = await doctor({ redis: { host: null, sentinel: nobody } })
    t.equal(lost.code, 1)
    t.match(linesOf(lost, 'problem'), [/redis .*master nobody .* can't be used/])
  },
)

/** Passes everything on, with a replacement of the same length in what the server says. */
async function proxyThatSays(
  t: Test,
  target: number,
  [pattern, text]: readonly [RegExp, string],
): Promise<number> {
  const proxy = createServer((client) => {
    const server = connect(target, '127.0.0.1')
    client.on('error', () => server.destroy()).pipe(server)
    server.on('error', () => client.destroy())
    server.on('end', () => client.end())
    server.on('data', (data) =>
      client.write(data.toString('latin1').replace(pattern, text), 'latin1'),
    )
  })
  const port = await freePort()
  await new Promise<void>((resolve) => proxy.listen(port, '127.0.0.1', resolve))
  t.teardown(() => proxy.close())
  return port
}

t.test('clocks that differ by more than two seconds are warned of', async (t) => {
  const redis = await startRedis(t)
  const options = connectionTo(redis.port)
  const client = openCommands(options, () => {})
  t.teardown(() => client.disconnect())
  await eventually('it is connected', () => client.status === 'ready')
  const subject = { client, options, keyBase: 'k' }
  const levels = async (aheadMs: number) => {
    const clock = { nowMs: () => Promise.resolve(Date.now() + aheadMs) }
    return (await checkClocks(subject, clock)).map(({ level }) => level)
  }
  t.same(await levels(0), ['ok', 'ok'])
  t.same(await levels(5_000), ['ok', 'warning'])
  t.same(await levels(-5_000), ['ok', 'warning'])
})

t.test('a storage root that is missing or no directory is a problem', async (t) => {
  const redis = await startRedis(t, { args: DURABLE })
  const port = { port: redis.port }
  const missing = await doctor({ redis: port, storage: { root: join(directory, 'nowhere') } })
  t.equal(missing.code, 1)
  t.match(missing.out, /^problem +storage root .*nowhere does not exist: mount/m)
  t.notOk((await readdir(directory)).includes('nowhere'), 'it is not created')
  await writeFile(join(directory, 'file'), '')
  const file = await doctor({ redis: port, storage: { root: join(directory, 'file') } })
  t.equal(file.code, 1)
  t.match(file.out, /^problem +storage root .*can't be written to \(ENOTDIR/m)
})

t.test('what the configuration alone shows is told by check, doctor and the start', async (t) => {
  const redis = await startRedis(t, { args: DURABLE })
  const risky = await configOf({
    core: { public_base_url: null, allow_artifacts_download: true, pre_drain_seconds: 0 },
    storage: { lock_mode: 'none' },
    redis: { port: redis.port },
    state: { unavailable_policy: 'fallback_memory', refresh_on_startup: true },
  })
  const checked = await run('check', risky)
  t.equal(checked.code, 0)
  const warnings = [
    /public address: core\.public_base_url is not set.* set core\.public_base_url/,
    /unavailable policy: fallback_memory .* use fail_closed or exit/,
    /lock mode: storage\.lock_mode none .* use auto, redis or file/,
    /refresh on startup: .* turn it off/,
  ]
  for (const warning of warnings) t.match(checked.err, warning)
  t.notMatch(checked.err, /without effect/, 'all of it is built')
  const seen = await run('doctor', risky)
  t.equal(seen.code, 1)
  t.match(linesOf(seen, 'problem'), [/public address/])
  const { core, ...rest } = risky
  const replica = await startReplica({ config: { ...rest, core: { ...core, workers: 1 } } })
  t.teardown(() => replica.kill())
  t.match(replica.logs(), /core\.public_base_url is not set/)
  t.match(replica.logs(), /storage\.lock_mode none lets every replica maintain/)
  t.equal(await replica.stop(), 0)
})

t.test('a root that nobody chose is warned of', async (t) => {
  const config = await configOf({ redis: { port: await freePort() } })
  const { storage: _storage, ...rest } = config
  t.match((await run('check', rest)).err, /shared root: storage\.root is not set/)
})

t.test(
  'replicas with different roots on one Redis say so, name each other, and are degraded',
  async (t) => {
    const redis = await startRedis(t, { args: [...DURABLE, '--maxmemory-policy', 'volatile-lru'] })
    const config = await configOf({
      core: {
        workers: 1,
        pre_drain_seconds: 0,
        // There is no upstream.
        max_start_wait_seconds: 0,
        upstream_ping: { enabled: false },
      },
      redis: { port: redis.port },
      state: { unavailable_policy: 'fallback_memory' },
    })
    const { storage: _storage, ...elsewhere } = config
    const [one, other] = await Promise.all([
      startReplica({ config }),
      startReplica({ config: elsewhere }),
    ])
    t.teardown(() => Promise.all([one.kill(), other.kill()]))
    for (const replica of [one, other]) {
      await eventually('the risk in Redis is logged', () =>
        replica.logs().includes('maxmemory-policy is volatile-lru'),
      )
      await eventually('the other root is noticed', () => {
        const log =
          /replica (\S+) does not see the files of (\S+) under (\S+): .* mount the same one/
        const [, own, peer] = log.exec(replica.logs()) ?? []
        return own !== undefined && peer !== undefined && own !== peer
      })
      const health = await fetch(`${replica.url}/healthz`)
      t.equal(health.status, 503)
      t.match(await health.json(), {
        status: 'degraded',
        degraded_reason: 'storage_root_not_shared',
      })
      t.equal((await fetch(`${replica.url}/readyz`)).status, 200, 'it serves all the same')
    }
    const seen = await run('doctor', config)
    t.equal(seen.code, 1)
    t.match(seen.out, /^problem +replicas +1 of 2 running replicas .* use another storage root/m)
    t.match(seen.out, /^problem +unavailable policy +fallback_memory while 2 replicas run/m)
    t.equal(await other.stop(), 0)
    await eventually('the one that is left recovers', async () => {
      return (await fetch(`${one.url}/healthz`)).status === 200
    })
    const alone = await run('doctor', config)
    t.match(alone.out, /^ok +replicas +1 running, and all of them use this storage root/m)
    t.equal(await one.stop(), 0)
    const { root } = config['storage'] as { root: string }
    t.same(await readdir(join(root, 'state', 'replicas')), [], 'no file is left')
  },
)

t.test('a configuration that is wrong, or names files that are not there, exits 2', async (t) => {
  const wrong = await doctor({ redis: { prot: 1 } })
  t.match(wrong, { code: 2, out: '', err: /prot/ })
  const tls = await doctor({ redis: { tls: { ca_file: join(directory, 'no-ca.pem') } } })
  t.equal(tls.code, 2)
  t.match(tls.err, /no-ca\.pem/)
})

t.test('without Redis only what matters to one replica is looked at', async (t) => {
  const ended = await doctor({ state: { type: 'disk' } })
  t.equal(ended.code, 0)
  t.notMatch(ended.out, /redis/i)
  const root = join(directory, 'not', 'yet', 'there')
  const fresh = await doctor({ state: { type: 'disk' }, storage: { root } })
  t.equal(fresh.code, 0)
  t.match(fresh.out, /^ok +storage root .* it is created at the start/m)
  await mkdir(join(directory, 'plain'))
  await writeFile(join(directory, 'plain', 'file'), '')
  const blocked = await doctor({
    state: { type: 'disk' },
    storage: { root: join(directory, 'plain', 'file', 'root') },
  })
  t.equal(blocked.code, 1)
})
