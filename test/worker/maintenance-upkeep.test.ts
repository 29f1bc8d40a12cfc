/** The upkeep of a worker as a whole: what a start does where other replicas use store and root, and what each lock mode means. */
import { readdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { MessageChannel } from 'node:worker_threads'

import t, { type Test } from 'tap'
import { stringify } from 'yaml'

import { parseConfig } from '../../src/shared/config/load.ts'
import { FileStore } from '../../src/shared/files/file-store.ts'
import { mintArtifactId } from '../../src/shared/ids.ts'
import { StoreHost } from '../../src/shared/state/host.ts'
import { RemoteStore } from '../../src/shared/state/remote.ts'
import type { StateStore } from '../../src/shared/state/store.ts'
import { openDigestPool } from '../../src/worker/files/digest-pool.ts'
import type { BusySession } from '../../src/worker/maintenance/keep-alive.ts'
import { Upkeep } from '../../src/worker/maintenance/upkeep.ts'
import { eventually } from '../support/eventually.ts'
import { openMemoryStore } from '../support/memory-store.ts'
import { POLICY, sessionRecord, tempRoot, tree } from './files-fixture.ts'
import { MINUTE, place, uploadRef } from './maintenance-fixture.ts'

const PART = `.${'A'.repeat(16)}.part`

interface LogLine {
  readonly level: string
  readonly text: string
}

/** One store and one root, and workers of replicas on them. */
async function openSite(t: Test) {
  const root = await tempRoot(t)
  const store = openMemoryStore(POLICY)
  const host = new StoreHost(store)
  t.teardown(() => host.close())
  const files = new FileStore({ root, atomicWrites: true })
  const digests = openDigestPool()
  t.teardown(() => digests.close())
  const connect = (): RemoteStore => {
    const { port1, port2 } = new MessageChannel()
    host.connect(port2)
    return new RemoteStore(port1)
  }
  const start = async (replicaId: string, options: SiteOptions = {}) => {
    const log: LogLine[] = []
    const note = (level: string) => (fields: object | string, text?: string) =>
      void log.push({ level, text: typeof fields === 'string' ? fields : (text ?? '') })
    const remote = connect()
    const upkeep = new Upkeep({
      config: configOf(root, options),
      store: remote,
      files,
      digests,
      replicaId,
      log: { debug: note('debug'), info: note('info'), warn: note('warn'), error: note('error') },
      maintains: options.maintains ?? true,
      busySessions: () => options.busy ?? [],
      endUpstream: async () => {},
    })
    t.teardown(async () => {
      await upkeep.stop()
      await remote.close()
    })
    await upkeep.start(options.firstStart ?? true)
    return { upkeep, log }
  }
  const names = async () => (await tree(join(root, 'sessions'))).map((path) => basename(path))
  return { root, files, host, store: connect(), start, names }
}

interface SiteOptions {
  readonly type?: 'redis' | 'memory'
  readonly lockMode?: string
  readonly mode?: string
  readonly firstStart?: boolean
  readonly maintains?: boolean
  readonly busy?: readonly BusySession[]
}

function configOf(root: string, { type = 'redis', lockMode = 'auto', mode }: SiteOptions) {
  const text = stringify({
    storage: { root, lock_mode: lockMode },
    sessions: { idle_ttl_seconds: 1 },
    state_persistence: {
      type,
      ...(type === 'redis' ? { redis: { host: '127.0.0.1' } } : {}),
      reconciliation: { mode: mode ?? 'if_empty' },
    },
    servers: [{ id: 'srv', mount_path: '/mcp', upstream: { url: 'http://127.0.0.1:1/' } }],
  })
  return parseConfig({ text, path: 'test', env: {} }).config
}

t.test('a start where others may be at work removes nothing of theirs', async (t) => {
  const site = await openSite(t)
  const session = sessionRecord('srv')
  await site.store.openSession(session)
  const reserved = await site.store.reserveBytes(session, 5)
  const artifactId = mintArtifactId()
  const artifact = { artifactId, filename: 'p', toolName: 't', exposeAsResource: true }
  await site.store.allocateArtifact(session, artifact)
  await place(site.files, uploadRef(session), PART, 60 * MINUTE)
  await place(site.files, uploadRef(session), 'not-committed-yet.txt', 60 * MINUTE)
  await site.start('b', { mode: 'always' })
  t.same((await site.names()).toSorted(), [PART, 'not-committed-yet.txt'])
  t.match(await site.store.inventory(), { reservedBytes: 5, pendingArtifacts: 1, uploads: 0 })
  t.equal(reserved.ok, true)
})

t.test(
  'the first replica gives files their records back; one that comes later does not',
  async (t) => {
    const site = await openSite(t)
    await place(site.files, uploadRef(sessionRecord('srv')), 'a.txt')
    const first = await site.start('first')
    t.match(await site.store.inventory(), { sessions: 1, uploads: 1 })
    t.match(first.log, [{ text: /maintains/ }, { text: 'state was rebuilt from the files' }])
    await site.store.clear()
    const second = await site.start('second')
    t.match(await site.store.inventory(), { sessions: 0 }, 'the first is the maintainer')
    t.same(second.log, [])
    await first.upkeep.stop()
    await eventually('the second is elected', () => second.log.length > 0, 15_000)
    t.match(await site.store.inventory(), { sessions: 0 }, 'it takes over, and rebuilds nothing')
  },
)

t.test('a worker that is started again rebuilds nothing', async (t) => {
  const site = await openSite(t)
  await place(site.files, uploadRef(sessionRecord('srv')), 'a.txt')
  await site.start('first', { firstStart: false })
  t.match(await site.store.inventory(), { sessions: 0 })
})

t.test('of known sessions only what nobody works on gets records: mode always', async (t) => {
  const site = await openSite(t)
  const [idle, receiving] = [sessionRecord('srv'), sessionRecord('srv')]
  for (const session of [idle, receiving]) {
    // oxlint-disable-next-line no-await-in-loop -- two
    await site.store.openSession(session)
  }
  await site.store.reserveBytes(receiving, 1)
  await place(site.files, uploadRef(idle), 'old.txt', 60 * MINUTE)
  await place(site.files, uploadRef(idle), 'young.txt')
  await place(site.files, uploadRef(receiving), 'old-of-two.txt', 60 * MINUTE)
  await site.start('a', { mode: 'always' })
  t.match(await site.store.inventory(), { sessions: 2, uploads: 1 })
  t.equal((await site.store.referencedItems(idle))?.uploads.length, 1)
})

t.test(
  'what stands in for the shared store rebuilds nothing and is not asked about files',
  async (t) => {
    const site = await openSite(t)
    site.host.tell({ kind: 'mode', mode: 'memory' })
    await place(site.files, uploadRef(sessionRecord('srv')), 'a.txt')
    await site.start('a')
    t.match(await site.store.inventory(), { sessions: 0 })
    t.same(await site.names(), ['a.txt'])
  },
)

function lockFiles(root: string): Promise<string[] | undefined> {
  return readdir(join(root, 'state', 'maintenance.lock')).catch(() => undefined)
}

async function isTakenIn(store: StateStore): Promise<boolean> {
  return (await store.electMaintainer('somebody', 1_000)) === null
}

t.test('each lock mode keeps out whom it says', async (t) => {
  for (const [type, lockMode, inStore, inFile] of [
    ['redis', 'auto', true, false],
    ['redis', 'redis', true, false],
    ['redis', 'file', false, true],
    ['redis', 'process', false, false],
    ['redis', 'none', false, false],
    ['memory', 'auto', false, true],
    ['memory', 'process', true, false],
    ['memory', 'none', false, false],
  ] as const) {
    // oxlint-disable-next-line no-await-in-loop -- one site after another
    await t.test(`${lockMode} with ${type}`, async (t) => {
      const site = await openSite(t)
      const { upkeep } = await site.start('a', { type, lockMode })
      t.equal(await isTakenIn(site.store), inStore)
      t.same(await lockFiles(site.root), inFile ? ['1'] : undefined)
      await upkeep.stop()
      t.equal(await isTakenIn(site.store), false, 'it is given back')
      t.same(await lockFiles(site.root), inFile ? ['1.released'] : undefined)
    })
  }
})

t.test('every worker keeps alive what it works for, also one that does not maintain', async (t) => {
  const site = await openSite(t)
  const session = sessionRecord('srv')
  await site.store.openSession(session)
  const before = await site.store.readSession(session)
  await new Promise((resolve) => setTimeout(resolve, 5))
  await site.start('a', { maintains: false, busy: [{ key: session, callLeases: [] }] })
  await eventually('its use is noted', async () => {
    const now = await site.store.readSession(session)
    return (now?.lastAccessedAtMs ?? 0) > (before?.lastAccessedAtMs ?? 0)
  })
  t.equal(await site.store.electMaintainer('somebody', 1_000), 1, 'nobody is the maintainer')
})
