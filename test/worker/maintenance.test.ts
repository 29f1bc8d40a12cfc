/** What maintenance removes, what it must never touch, and what a lost state database gets back. */
/* oxlint-disable no-await-in-loop -- tests do one thing after another */
import { randomBytes } from 'node:crypto'
import { lutimes, mkdir, readdir, symlink, utimes, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

import t, { type Test } from 'tap'

import { mintArtifactId, mintSessionId } from '../../src/shared/ids.ts'
import { openDigestPool } from '../../src/worker/files/digest-pool.ts'
import {
  reconcile,
  type ReconciliationOptions,
} from '../../src/worker/maintenance/reconciliation.ts'
import { UNCONTESTED } from '../../src/worker/maintenance/maintenance-lock.ts'
import { sessionRecord, tempRoot, tree } from './files-fixture.ts'
import {
  commitUpload,
  MINUTE,
  place,
  runTwice,
  sha256,
  startRig,
  uploadRecord,
  uploadRef,
} from './maintenance-fixture.ts'
import { sweptBy } from '../contract/store-fixtures.ts'

t.test(
  'expired items and sessions go from the store and from disk, and their ends are told',
  async (t) => {
    const rig = await startRig(t, {
      uploadTtlMs: 10 * MINUTE,
      idleTtlMs: 30 * MINUTE,
      tombstoneTtlMs: 60 * MINUTE,
    })
    const [idle, busy] = [sessionRecord('srv'), sessionRecord('srv')]
    for (const record of [idle, busy]) {
      await rig.store.openSession(record)
      await commitUpload(rig, record)
    }
    const sweeper = rig.sweeper({ aliveSessions: () => [busy] })
    rig.advance(11 * MINUTE)
    t.equal((await sweeper.runOnce(UNCONTESTED)).removedUploads, 2)
    t.same(await tree(rig.files.root), [])
    await commitUpload(rig, idle)
    rig.advance(31 * MINUTE)
    const asleep = await sweeper.runOnce(UNCONTESTED)
    t.equal(asleep.tombstonedSessions, 1, 'a session with calls in flight is not idle')
    rig.advance(61 * MINUTE)
    const gone = await sweeper.runOnce(UNCONTESTED)
    t.equal(gone.removedTombstones, 1)
    t.same(
      rig.ended.map((record) => record.sessionId),
      [idle.sessionId],
    )
    t.notOk((await tree(rig.files.root)).some((path) => path.includes(idle.sessionId)))
    t.equal(gone.finishedAtMs, rig.clock.wallMs())
    t.equal(gone.endedEarly, false)
  },
)

t.test('a batch limit does not limit a run', async (t) => {
  const rig = await startRig(t, { uploadTtlMs: MINUTE })
  const session = sessionRecord('srv')
  await rig.store.openSession(session)
  for (let i = 0; i < 250; i++) await commitUpload(rig, session)
  rig.advance(2 * MINUTE)
  t.equal((await rig.sweeper().runOnce(UNCONTESTED)).removedUploads, 250)
  t.same(await tree(rig.files.root), [])
})

t.test(
  'orphans go when they are old; nothing that has a record, or is young, is touched',
  async (t) => {
    const rig = await startRig(t, { idleTtlMs: 30 * MINUTE })
    const [active, sleeping] = [sessionRecord('srv'), sessionRecord('srv')]
    for (const record of [active, sleeping]) await rig.store.openSession(record)
    await commitUpload(rig, sleeping, 'sleeping.txt')
    rig.advance(31 * MINUTE)
    await rig.store.touchSessions([active])
    await sweptBy(rig.store, 10, [active])
    t.equal((await rig.store.readSession(sleeping))?.state, 'tombstoned')
    await commitUpload(rig, active, 'committed.txt')
    const pending = mintArtifactId()
    await rig.store.allocateArtifact(active, {
      artifactId: pending,
      filename: 'p',
      toolName: 't',
      exposeAsResource: true,
    })
    await place(
      rig.files,
      { ...uploadRef(active), kind: 'artifacts', id: pending },
      'pending.png',
      60 * MINUTE,
    )
    await place(rig.files, uploadRef(active), 'young.txt', 3 * MINUTE)
    await place(rig.files, uploadRef(active), 'orphan.txt', 6 * MINUTE)
    await place(
      rig.files,
      { ...uploadRef(active), kind: 'artifacts' },
      `.${'A'.repeat(16)}.part`,
      6 * MINUTE,
    )
    await place(rig.files, uploadRef(sessionRecord('srv')), 'unknown-young.txt', 3 * MINUTE)
    await place(rig.files, uploadRef(sessionRecord('gone')), 'unknown-old.txt', 6 * MINUTE)
    const sweeper = rig.sweeper()
    t.equal((await sweeper.runOnce(UNCONTESTED)).removedOrphanItems, 0, 'not at first sight')
    rig.advance(6 * MINUTE)
    await sweptBy(rig.store, 10, [active, sleeping])
    await rig.store.touchPending(active, [pending])
    const report = await sweeper.runOnce(UNCONTESTED)
    const names = (await tree(rig.files.root)).map((path) => basename(path))
    t.same(names.toSorted(), [
      'committed.txt',
      'pending.png',
      'sleeping.txt',
      'unknown-young.txt',
      'young.txt',
    ])
    t.same([report.removedOrphanItems, report.removedOrphanSessions, report.failures], [2, 1, 0])
    t.notOk(
      (await readdir(join(rig.files.root, 'sessions'))).includes('gone'),
      'nor an empty directory',
    )
  },
)

t.test('a temporary file that a crash left beside a stored one goes alone', async (t) => {
  const rig = await startRig(t)
  const session = sessionRecord('srv')
  await rig.store.openSession(session)
  const { uploadId } = await commitUpload(rig, session)
  const ref = { ...uploadRef(session), id: uploadId }
  await place(rig.files, ref, `.${'A'.repeat(16)}.part`, 6 * MINUTE)
  await place(rig.files, ref, '.tool.part', 6 * MINUTE)
  const young = `.${'B'.repeat(16)}.part`
  await place(rig.files, ref, young, MINUTE)
  t.equal((await rig.sweeper().runOnce(UNCONTESTED)).removedTemporaryFiles, 1)
  t.same(
    (await readdir(rig.files.itemDir(ref))).toSorted(),
    [young, '.tool.part', 'a.txt'].toSorted(),
  )
})

t.test('a periodic run never takes what is still coming in, however short the grace', async (t) => {
  const rig = await startRig(t)
  const session = sessionRecord('srv')
  await rig.store.openSession(session)
  await place(rig.files, uploadRef(session), `.${'A'.repeat(16)}.part`, MINUTE)
  const sweeper = rig.sweeper({ orphans: { enabled: true, graceMs: 0 } })
  t.equal((await runTwice(rig, sweeper)).removedOrphanItems, 0)
  const atStart = await sweeper.runAtStart(UNCONTESTED, { removesUnrecorded: true })
  t.equal(atStart.removedOrphanItems, 1, 'the run at start does')
})

t.test('files of an upload that has room reserved stay, however long it takes', async (t) => {
  const rig = await startRig(t)
  const session = sessionRecord('srv')
  await rig.store.openSession(session)
  const reserved = await rig.store.reserveBytes(session, 1)
  if (!reserved.ok) throw new Error(reserved.reason)
  const first = uploadRef(session)
  await place(rig.files, first, 'first-of-two.txt', 60 * MINUTE)
  const sweeper = rig.sweeper()
  await sweeper.runOnce(UNCONTESTED)
  for (let minutes = 0; minutes < 20; minutes++) {
    rig.advance(MINUTE)
    await rig.store.keepAlive([{ key: session, callLeases: [] }])
    t.equal((await sweeper.runOnce(UNCONTESTED)).removedOrphanItems, 0)
  }
  const record = uploadRecord(first.id, 'first-of-two.txt')
  t.match(await rig.store.commitUploads(session, reserved.reservationId, [record]), { ok: true })
  t.equal((await runTwice(rig, sweeper)).removedOrphanItems, 0)
  t.match(await tree(rig.files.root), [/first-of-two/])
})

t.test(
  'what becomes unowned gets its grace from then on: the state may have been lost',
  async (t) => {
    const rig = await startRig(t)
    const session = sessionRecord('srv')
    await rig.store.openSession(session)
    await commitUpload(rig, session)
    const sweeper = rig.sweeper()
    await runTwice(rig, sweeper)
    await rig.store.clear()
    t.equal((await sweeper.runOnce(UNCONTESTED)).removedOrphanSessions, 0)
    rig.advance(4 * MINUTE)
    t.equal((await sweeper.runOnce(UNCONTESTED)).removedOrphanSessions, 0)
    rig.advance(2 * MINUTE)
    t.equal((await sweeper.runOnce(UNCONTESTED)).removedOrphanSessions, 1)
  },
)

t.test('nothing counts as unowned while the store does not know everything', async (t) => {
  const rig = await startRig(t)
  await place(rig.files, uploadRef(sessionRecord('srv')), 'a.txt', 60 * MINUTE)
  let knowsAll = true
  const sweeper = rig.sweeper({ knowsAll: () => knowsAll })
  await sweeper.runOnce(UNCONTESTED)
  knowsAll = false
  const report = await runTwice(rig, sweeper)
  t.match(report, { removedOrphanSessions: 0, endedEarly: true })
  t.equal((await tree(rig.files.root)).length, 1)
  knowsAll = true
  t.equal((await sweeper.runOnce(UNCONTESTED)).removedOrphanSessions, 1)
})

t.test('orphans stay where the sweep for them is off', async (t) => {
  const rig = await startRig(t)
  await place(rig.files, uploadRef(sessionRecord('srv')), 'a.txt', 60 * MINUTE)
  await runTwice(rig, rig.sweeper({ orphans: { enabled: false, graceMs: 0 } }))
  t.equal((await tree(rig.files.root)).length, 1)
})

t.test('links are not followed when sweeping', async (t) => {
  const rig = await startRig(t)
  const outside = await tempRoot(t)
  await writeFile(join(outside, 'keep'), 'x')
  const old = new Date(Date.now() - 60 * MINUTE)
  await utimes(join(outside, 'keep'), old, old)
  const key = sessionRecord('srv')
  await rig.store.openSession(key)
  const ref = uploadRef(key)
  const path = await place(rig.files, ref, 'a.txt', 60 * MINUTE)
  await symlink(outside, join(dirname(path), 'link'))
  await symlink(outside, join(rig.files.sessionDir(key), 'artifacts'))
  await utimes(dirname(path), old, old)
  await lutimes(join(dirname(path), 'link'), old, old)
  await runTwice(rig, rig.sweeper())
  t.same(await tree(outside), ['keep'])
  t.notOk((await tree(rig.files.root)).some((name) => name.endsWith('a.txt')))
})

const refuseToEnd = () => Promise.reject(new Error('the upstream did not answer'))

t.test('one removal that fails keeps nothing else, and is reported', async (t) => {
  const rig = await startRig(t, { uploadTtlMs: MINUTE })
  const session = sessionRecord('srv')
  await rig.store.openSession(session)
  await commitUpload(rig, session)
  await commitUpload(rig, session)
  rig.advance(2 * MINUTE)
  const errors: unknown[] = []
  let failures = 1
  const files = new Proxy(rig.files, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name)
      if (typeof value !== 'function') return value
      if (name === 'removeItem' && failures-- > 0) return () => Promise.reject(new Error('EIO'))
      return value.bind(target)
    },
  })
  const sweeper = rig.sweeper({
    files,
    onSessionsEnded: refuseToEnd,
    onError: (error) => errors.push(error),
  })
  const report = await sweeper.runOnce(UNCONTESTED)
  t.same([report.removedUploads, report.failures, errors.length], [2, 1, 1])
  t.equal((await tree(rig.files.root)).length, 1)
  await runTwice(rig, sweeper)
  t.equal((await tree(rig.files.root)).length, 0, 'a later run took it')
})

t.test('runs at the same time are one run', async (t) => {
  const sweeper = (await startRig(t)).sweeper()
  t.equal(sweeper.runOnce(UNCONTESTED), sweeper.runOnce(UNCONTESTED))
  await sweeper.runOnce(UNCONTESTED)
})

async function reconciling(t: Test, options: Partial<ReconciliationOptions> = {}) {
  const { files, store } = await startRig(t)
  const digests = openDigestPool()
  t.teardown(() => digests.close())
  const run = () =>
    reconcile({
      mode: 'if_empty',
      tenure: UNCONTESTED,
      settledBeforeMs: null,
      store,
      files,
      digests,
      serverIds: ['srv'],
      legacyServerId: null,
      ...options,
    })
  return { files, store, run }
}

t.test('a lost state database gets its files back', async (t) => {
  const { files, store, run } = await reconciling(t)
  const key = sessionRecord('srv')
  const upload = uploadRef(key)
  const artifact = { ...uploadRef(key), kind: 'artifacts' } as const
  await place(files, upload, 'ü.txt', 10 * MINUTE, 'hello')
  await place(files, upload, `.${'A'.repeat(16)}.part`, 0, 'temporary')
  await place(files, artifact, 'shot.bin', 20 * MINUTE, '%PDF-1.4')
  await place(files, uploadRef(key), '.hidden', 0)
  await place(files, uploadRef(key), 'bad\u202Ename.txt', 0)
  await place(files, { ...uploadRef(key), id: 'not-an-id' }, 'a.txt', 0)
  await place(files, uploadRef(sessionRecord('removed-server')), 'a.txt', 0)
  await symlink(files.root, join(await files.createItemDir(uploadRef(key)), 'link.txt'))
  const report = await run()
  t.same(report, {
    outcome: 'done',
    sessions: 1,
    uploads: 1,
    artifacts: 1,
    movedLegacyFiles: 0,
    skipped: 4,
  })
  const view = await store.readSession(key)
  t.equal(view?.record.protocolVersion, '2025-11-25')
  t.equal(view?.record.upstreamSessionId, null)
  const [record] = await store.listArtifacts(key)
  t.match(record, {
    artifactId: artifact.id,
    filename: 'shot.bin',
    mimeType: 'application/pdf',
    sizeBytes: 8,
    sha256: sha256('%PDF-1.4'),
  })
  t.ok(Math.abs((record?.createdAtMs ?? 0) - (Date.now() - 20 * MINUTE)) < MINUTE)
  const referenced = await store.referencedItems(key)
  t.match(referenced, { uploads: [upload.id], artifacts: [artifact.id] })
  t.equal((await store.inventory()).bytes, 13, 'their bytes count')
})

t.test('reconciliation keeps to its mode', async (t) => {
  const off = await reconciling(t, { mode: 'disabled' })
  await place(off.files, uploadRef(sessionRecord('srv')), 'a.txt')
  t.equal((await off.run()).outcome, 'disabled')
  t.equal((await off.store.inventory()).sessions, 0)

  const ifEmpty = await reconciling(t)
  await ifEmpty.store.openSession(sessionRecord('srv'))
  await place(ifEmpty.files, uploadRef(sessionRecord('srv')), 'a.txt')
  t.equal((await ifEmpty.run()).outcome, 'not_empty')

  const always = await reconciling(t, { mode: 'always' })
  const known = sessionRecord('srv')
  await always.store.openSession(known)
  await place(always.files, uploadRef(known), 'a.txt')
  t.equal((await always.run()).uploads, 1)
  t.equal((await always.run()).uploads, 0, 'what has a record is left as it is')
  t.equal((await always.store.inventory()).sessions, 1)
})

/** A file as the layout before ours had it. */
async function placeLegacy(
  root: string,
  kind: string,
  session: string,
  item: string,
  name: string,
) {
  const directory = join(root, kind, 'sessions', session, item)
  await mkdir(directory, { recursive: true })
  await writeFile(join(directory, name), 'old')
}

t.test('files of the old layout move to the one server there is', async (t) => {
  const { files, store, run } = await reconciling(t)
  const session = randomBytes(16).toString('hex')
  const item = randomBytes(16).toString('hex')
  await placeLegacy(files.root, 'uploads', session, item, 'old ü.txt')
  await placeLegacy(files.root, 'uploads', session, item, '.old.lock')
  await placeLegacy(files.root, 'artifacts', session, mintArtifactId(), 'shot.png')
  await placeLegacy(files.root, 'uploads', 'not a session', item, 'a.txt')
  await placeLegacy(files.root, 'uploads', session, 'two', 'a.txt')
  await placeLegacy(files.root, 'uploads', session, 'two', 'b.txt')
  const report = await run()
  t.same([report.movedLegacyFiles, report.uploads, report.artifacts, report.skipped], [2, 1, 1, 2])
  const id = Buffer.from(item, 'hex').toString('base64url')
  t.ok((await tree(files.root)).includes(`sessions/srv/${session}/uploads/${id}/old ü.txt`))
  t.equal((await store.inventory()).sessions, 1)
})

t.test('files of the old layout stay when their server is not known', async (t) => {
  const several = await reconciling(t, { serverIds: ['a', 'b'] })
  await placeLegacy(several.files.root, 'uploads', mintSessionId(), 'x', 'a.txt')
  t.match(await several.run(), { movedLegacyFiles: 0, skipped: 1 })
  const named = await reconciling(t, { serverIds: ['a', 'b'], legacyServerId: 'b' })
  await placeLegacy(named.files.root, 'uploads', mintSessionId(), 'x', 'a.txt')
  t.match(await named.run(), { movedLegacyFiles: 1, uploads: 1 })
  t.match((await tree(named.files.root))[0], /^sessions\/b\//)
})
