/** What a start after a crash removes at once, what it leaves its grace, and what it adopts. */
import { basename } from 'node:path'

import t, { type Test } from 'tap'

import { parseConfig } from '../../src/shared/config/load.ts'
import { mintArtifactId } from '../../src/shared/ids.ts'
import { openDigestPool } from '../../src/worker/files/digest-pool.ts'
import type { ReconciliationOptions } from '../../src/worker/maintenance/reconciliation.ts'
import { clearUp } from '../../src/worker/maintenance/start-up.ts'
import { UNCONTESTED } from '../../src/worker/maintenance/maintenance-lock.ts'
import { sessionRecord, tree } from './files-fixture.ts'
import { commitUpload, MINUTE, place, startRig, uploadRef } from './maintenance-fixture.ts'

const SERVER =
  'servers: [{ id: srv, mount_path: /mcp/srv, upstream: { url: "http://127.0.0.1:1/" } }]'

interface StartState {
  readonly type: 'memory' | 'disk'
  readonly mode: ReconciliationOptions['mode']
  readonly refreshOnStartup?: boolean
}

/** A start after a crash, on a store and files that a test prepares; `later` is a periodic run. */
async function starting(t: Test, state: StartState, graceMs = 60 * MINUTE) {
  const rig = await startRig(t)
  const digests = openDigestPool()
  t.teardown(() => digests.close())
  const sweeper = rig.sweeper({ orphans: { enabled: true, graceMs } })
  const { type, mode, refreshOnStartup = false } = state
  const base = parseConfig({ text: SERVER, path: 'test', env: {} }).config
  const reconciliation = { mode, legacyServerId: null }
  const config = {
    servers: base.servers,
    statePersistence: { ...base.statePersistence, type, refreshOnStartup, reconciliation },
  }
  const start = () => clearUp({ ...rig, config, digests, sweeper })
  const names = async () => (await tree(rig.files.root)).map((path) => basename(path)).toSorted()
  return { ...rig, rig, sweeper, start, names }
}

const PART = `.${'A'.repeat(16)}.part`

t.test('a start removes what a crash cut off at once, and no more', async (t) => {
  const { rig, files, store, start, names } = await starting(t, { type: 'disk', mode: 'if_empty' })
  const known = sessionRecord('srv')
  await store.openSession(known)
  const { uploadId } = await commitUpload(rig, known, 'acknowledged.txt')
  await place(files, { ...uploadRef(known), id: uploadId }, PART)
  await place(files, uploadRef(known), 'renamed-not-committed.txt')
  await place(files, uploadRef(known), PART)
  await place(files, uploadRef(sessionRecord('srv')), 'unknown.txt', 600 * MINUTE)
  const halfway = uploadRef(sessionRecord('srv'))
  await place(files, halfway, PART)
  await place(files, uploadRef(sessionRecord('removed-server')), 'removed.txt', 600 * MINUTE)
  const artifactId = mintArtifactId()
  const pending = { artifactId, filename: 'p', toolName: 't', exposeAsResource: true }
  await store.allocateArtifact(known, pending)
  await place(files, { ...uploadRef(known), kind: 'artifacts', id: artifactId }, 'pending.txt')
  t.equal((await start()).outcome, 'not_empty')
  t.same(await names(), ['acknowledged.txt', 'removed.txt', 'unknown.txt'])
  t.equal((await store.inventory()).bytes, 1)
})

t.test(
  'with a lost database and no reconciliation, files get their grace from the start',
  async (t) => {
    const { files, sweeper, start, names } = await starting(t, { type: 'disk', mode: 'disabled' })
    await place(files, uploadRef(sessionRecord('srv')), 'a.txt', 600 * MINUTE)
    await start()
    await sweeper.runOnce(UNCONTESTED)
    t.same(await names(), ['a.txt'], 'its age does not count')

    const none = await starting(t, { type: 'disk', mode: 'disabled' }, 0)
    await place(none.files, uploadRef(sessionRecord('srv')), 'a.txt')
    await none.start()
    t.same(await none.names(), [], 'a grace of nothing is none')
  },
)

t.test('what a reconciliation could not adopt gets its grace', async (t) => {
  const { files, store, start, names } = await starting(t, { type: 'disk', mode: 'if_empty' })
  const key = sessionRecord('srv')
  await place(files, uploadRef(key), 'good.txt', 600 * MINUTE)
  await place(files, uploadRef(key), 'bad\u202Ename.txt', 600 * MINUTE)
  await place(files, uploadRef(key), PART)
  t.match(await start(), { outcome: 'done', uploads: 1 })
  t.same(await names(), ['bad\u202Ename.txt', 'good.txt'])
  t.equal((await store.inventory()).uploads, 1)
})

t.test('uploads that are newer than the snapshot are adopted', async (t) => {
  const { rig, files, store, start, names } = await starting(t, {
    type: 'memory',
    mode: 'if_empty',
  })
  const key = sessionRecord('srv')
  await store.openSession(key)
  await commitUpload(rig, key, 'in-snapshot.txt')
  await place(files, uploadRef(key), 'newer.txt')
  await place(files, uploadRef(sessionRecord('srv')), 'of-a-newer-session.txt')
  t.match(await start(), { outcome: 'done', uploads: 2 })
  t.same(await names(), ['in-snapshot.txt', 'newer.txt', 'of-a-newer-session.txt'])
  t.match(await store.inventory(), { bytes: 3, uploads: 3 })

  const refreshed = { type: 'memory', mode: 'if_empty', refreshOnStartup: true } as const
  const emptied = await starting(t, refreshed)
  await place(emptied.files, uploadRef(key), 'a.txt')
  t.equal((await emptied.start()).outcome, 'disabled', 'it was emptied on purpose')
})
