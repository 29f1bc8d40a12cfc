import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import t from 'tap'
import type { Test } from 'tap'

import { parseUploadId } from '../../src/shared/ids.ts'
import { openLocalStore } from '../../src/shared/state/open.ts'
import type { LocalStoreHooks, LocalStoreOptions } from '../../src/shared/state/open.ts'
import type { SessionRecord } from '../../src/shared/state/records.ts'
import { prepareSchema } from '../../src/shared/state/schema.ts'
import { SqlDatabase } from '../../src/shared/state/sql-database.ts'
import { SqlStore } from '../../src/shared/state/sql-store.ts'
import { eventually } from '../support/eventually.ts'
import {
  OPEN_POLICY,
  finalOf,
  newArtifact,
  newSession,
  newUpload,
  opened,
  policyWith,
  produced,
  reserved,
  sweptBy,
  uploaded,
} from './store-fixtures.ts'

function directory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'state-durability-'))
  t.teardown(() => rmSync(path, { recursive: true }))
  return path
}

function open(t: Test, changes: Partial<LocalStoreOptions>, hooks: LocalStoreHooks = {}): SqlStore {
  const options: LocalStoreOptions = {
    type: 'disk',
    path: '/nonexistent/state.sqlite3',
    walEnabled: true,
    snapshotPath: null,
    snapshotIntervalMs: 60_000,
    refreshOnStartup: false,
    policy: OPEN_POLICY,
    ...changes,
  }
  const store = openLocalStore(options, hooks)
  t.teardown(() => store.close())
  return store
}

/** Fills a store with one of everything that must survive; the answer checks that another store has all of it. */
async function fill(store: SqlStore): Promise<(t: Test, again: SqlStore) => Promise<void>> {
  const session = await opened(store)
  const { reservationId } = await reserved(store, session, 5)
  const upload = newUpload(5)
  const nonce = { value: 'n-1', expiresAtMs: Date.now() + 3_600_000 }
  await store.commitUploads(session, reservationId, [upload], nonce)
  const { id } = await produced(store, session, 7)
  await store.pinCatalogue(session, 'tools')
  const closed = await opened(store)
  await store.closeSession(closed)
  const artifact = await store.readArtifact(session, id)
  const before = await store.inventory()
  return async (t, again) => {
    t.strictSame((await again.readSession(session))?.record, session)
    t.strictSame(await again.resolveUploads(session, [upload.uploadId]), {
      ok: true,
      uploads: [upload],
    })
    t.strictSame(await again.readArtifact(session, id), artifact)
    t.equal(await again.isNonceUsed(session, 'n-1'), true)
    t.equal(await again.pinCatalogue(session, 'others'), 'tools')
    t.equal(await again.readSession(closed), undefined)
    t.strictSame(await again.inventory(), before)
  }
}

for (const walEnabled of [true, false]) {
  t.test(`a disk store ${walEnabled ? 'with' : 'without'} a log survives a restart`, async (t) => {
    const path = join(directory(t), 'sub', 'state.sqlite3')
    const store = open(t, { path, walEnabled })
    const survives = await fill(store)
    await store.close()
    await survives(t, open(t, { path, walEnabled }))
    t.equal(statSync(path).mode & 0o077, 0, 'nobody else can read it')
  })

  t.test(`a disk store ${walEnabled ? 'with' : 'without'} a log survives a crash`, async (t) => {
    const root = directory(t)
    const path = join(root, 'state.sqlite3')
    const store = open(t, { path, walEnabled })
    const survives = await fill(store)
    const copy = join(root, 'copy.sqlite3')
    for (const suffix of ['', '-wal']) {
      if (existsSync(path + suffix)) copyFileSync(path + suffix, copy + suffix)
    }
    await survives(t, open(t, { path: copy, walEnabled }))
  })
}

t.test(
  'when something was used is known after a stop, and a second later also after a crash',
  async (t) => {
    const root = directory(t)
    const path = join(root, 'state.sqlite3')
    const policy = policyWith({ uploadTtlMs: 10_000 })
    let nowMs = 1_000_000
    const clock = (): number => nowMs
    const store = open(t, { path, policy }, { clock })
    const session = await opened(store)
    const uploadId = await uploaded(store, session, 5)
    const use = (of: SqlStore) => of.resolveUploads(session, [uploadId])
    nowMs += 8_000
    t.match(await use(store), { ok: true })
    nowMs += 8_000
    let copies = 0
    await eventually('the use is written', async () => {
      const copy = join(root, `copy-${copies++}.sqlite3`)
      for (const suffix of ['', '-wal']) copyFileSync(path + suffix, copy + suffix)
      const again = open(t, { path: copy, policy }, { clock })
      const outcome = await use(again)
      await again.close()
      return outcome.ok
    })
    t.match(await use(store), { ok: true })
    await store.close()
    nowMs += 8_000
    t.match(await use(open(t, { path, policy }, { clock })), { ok: true })
  },
)

t.test('a second process is told who has the file, and takes over after a kill', async (t) => {
  const path = join(directory(t), 'state.sqlite3')
  const holder = fileURLToPath(new URL('./store-holder.js', import.meta.url))
  const child = spawn(process.execPath, [holder, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const [output] = await once(child.stdout, 'data')
  // The child writes this and nothing else.
  const written: { session: SessionRecord; uploadId: string } = JSON.parse(String(output))
  t.throws(() => open(t, { path }), {
    message: new RegExp(`${path} is in use by process ${child.pid} `),
  })
  child.kill('SIGKILL')
  await once(child, 'exit')
  const store = open(t, { path })
  const uploadId = parseUploadId(written.uploadId)
  if (uploadId === undefined) throw new Error('no upload id')
  t.match(await store.resolveUploads(written.session, [uploadId]), { ok: true })
  t.match(await store.inventory(), { bytes: 5, reservedBytes: 100, pendingArtifacts: 1 })
  t.equal((await store.recoverAfterCrash()).length, 1)
  t.match(await store.inventory(), { bytes: 5, reservedBytes: 0, pendingArtifacts: 0 })
  t.throws(() => open(t, { path }), { message: /in use by process/ }, 'also in one process')
})

t.test('a memory store writes a snapshot when it closes and reads it when it opens', async (t) => {
  const snapshotPath = join(directory(t), 'sub', 'snapshot.sqlite3')
  const store = open(t, { type: 'memory', snapshotPath })
  const survives = await fill(store)
  t.throws(() => open(t, { type: 'memory', snapshotPath }), { message: /in use by process/ })
  await store.close()
  const again = open(t, { type: 'memory', snapshotPath })
  await survives(t, again)
  await again.close()
  await survives(t, open(t, { type: 'memory', snapshotPath }))
  t.equal(statSync(snapshotPath).mode & 0o077, 0, 'nobody else can read it')
})

t.test('a memory store writes a snapshot from time to time, when something changed', async (t) => {
  const root = directory(t)
  const snapshotPath = join(root, 'snapshot.sqlite3')
  const store = open(t, { type: 'memory', snapshotPath, snapshotIntervalMs: 10 })
  const survives = await fill(store)
  const written = (): number => (existsSync(snapshotPath) ? statSync(snapshotPath).ino : 0)
  const first = written()
  await eventually('a snapshot', () => written() !== first)
  const copy = join(root, 'copy.sqlite3')
  copyFileSync(snapshotPath, copy)
  await survives(t, open(t, { type: 'memory', snapshotPath: copy }))
  const before = written()
  await opened(store)
  await eventually('another snapshot', () => written() !== before)
})

t.test('a snapshot that is damaged is moved aside and the store starts empty', async (t) => {
  const root = directory(t)
  const snapshotPath = join(root, 'snapshot.sqlite3')
  for (const content of [Buffer.from('x'.repeat(9_000)), await damagedSnapshot(root)]) {
    writeFileSync(snapshotPath, content)
    const warnings: string[] = []
    const store = open(
      t,
      { type: 'memory', snapshotPath },
      { onWarning: (message) => warnings.push(message) },
    )
    t.equal(warnings.length, 1)
    t.match(warnings[0], snapshotPath)
    // oxlint-disable-next-line no-await-in-loop -- one store at a time
    t.match(await store.inventory(), { sessions: 0 })
    const aside = readdirSync(root).find((name) => name.includes('.corrupt-'))
    if (aside === undefined) throw new Error('not moved aside')
    t.strictSame(readFileSync(join(root, aside)), content)
    rmSync(join(root, aside))
    // oxlint-disable-next-line no-await-in-loop -- one store at a time
    await store.close()
  }
})

/** A snapshot whose pages, but for the first, are overwritten. */
async function damagedSnapshot(root: string): Promise<Buffer> {
  const snapshotPath = join(root, 'good.sqlite3')
  const store = openLocalStore({
    type: 'memory',
    path: '',
    walEnabled: true,
    snapshotPath,
    snapshotIntervalMs: 60_000,
    refreshOnStartup: false,
    policy: OPEN_POLICY,
  })
  await opened(store)
  await store.close()
  const content = readFileSync(snapshotPath)
  content.fill('x', 4096)
  return content
}

t.test('a snapshot that cannot be written is reported and the store goes on', async (t) => {
  const root = directory(t)
  const snapshotPath = join(root, 'snapshots', 'snapshot.sqlite3')
  const warnings: string[] = []
  const store = open(
    t,
    { type: 'memory', snapshotPath, snapshotIntervalMs: 10 },
    { onWarning: (message) => warnings.push(message) },
  )
  rmSync(join(root, 'snapshots'), { recursive: true })
  await opened(store)
  await eventually('a warning', () => warnings.length > 0)
  t.match(warnings[0], snapshotPath)
  t.match(await store.inventory(), { sessions: 1 })
})

t.test('a file of a newer version is refused and left as it is', async (t) => {
  const root = directory(t)
  const path = join(root, 'state.sqlite3')
  const database = new SqlDatabase(path)
  database.exec('PRAGMA user_version = 99')
  database.close()
  const before = readFileSync(path)
  t.throws(() => open(t, { path }), { message: /state\.sqlite3 has schema version 99/ })
  t.throws(() => open(t, { type: 'memory', snapshotPath: path }), {
    message: /state\.sqlite3 has schema version 99/,
  })
  t.strictSame(readFileSync(path).subarray(60, 64), before.subarray(60, 64))
})

t.test('a file of the version before is read, and gets what it lacks', async (t) => {
  const path = join(directory(t), 'state.sqlite3')
  const first = open(t, { path })
  const session = await opened(first)
  await first.close()
  const database = new SqlDatabase(path)
  database.exec(
    'DROP TRIGGER session_unpinned; DROP TABLE catalogues; PRAGMA user_version = 1; PRAGMA wal_checkpoint(TRUNCATE)',
  )
  database.close()
  const copy = join(directory(t), 'snapshot.sqlite3')
  copyFileSync(path, copy)
  for (const changes of [{ path }, { type: 'memory', snapshotPath: copy }] as const) {
    const store = open(t, changes)
    t.strictSame((await store.readSession(session))?.record, session)
    t.equal(await store.pinCatalogue(session, 'tools'), 'tools')
    await store.close()
    const again = open(t, changes)
    t.equal(await again.pinCatalogue(session, 'others'), 'tools')
    await again.close()
  }
})

t.test('a file that is no database is named, and its lock is given back', async (t) => {
  const path = join(directory(t), 'state.sqlite3')
  writeFileSync(path, 'x'.repeat(9_000))
  t.throws(() => open(t, { path }), { message: new RegExp(`${path} can't be opened`) })
  rmSync(path)
  t.match(await open(t, { path }).inventory(), { sessions: 0 })
})

t.test('one unreadable record disturbs nothing but its session', async (t) => {
  const path = join(directory(t), 'state.sqlite3')
  const store = open(t, { path })
  const [good, bad, newer] = [await opened(store), await opened(store), await opened(store)]
  const upload = await uploaded(store, bad, 3)
  await store.close()
  const database = new SqlDatabase(path)
  database.run(`UPDATE sessions SET record = '{"x' WHERE session_id = ?`, bad.sessionId)
  database.run(
    'UPDATE sessions SET record = ? WHERE session_id = ?',
    JSON.stringify({ ...newer, schemaVersion: 3 }),
    newer.sessionId,
  )
  database.close()

  const warnings: string[] = []
  let nowMs = Date.now()
  const again = open(
    t,
    { path, policy: policyWith({ idleTtlMs: 1_000, tombstoneTtlMs: 1_000 }) },
    { onWarning: (message) => warnings.push(message), clock: () => nowMs },
  )
  t.strictSame((await again.readSession(good))?.record, good)
  t.equal(await again.readSession(bad), undefined)
  t.equal(await again.readSession(newer), undefined)
  t.equal(await again.reviveSession(bad), 'gone')
  t.equal(warnings.length, 3)
  await again.adopt(newer, [], [])
  t.strictSame((await again.readSession(newer))?.record, newer, 'adopting repairs it')
  nowMs += 2_001
  const { serverId, sessionId } = bad
  t.match(await sweptBy(again, 10, [good, newer]), {
    sessions: [],
    files: [{ serverId, sessionId, kind: 'uploads', id: upload }],
  })
})

t.test('sums that were changed from outside are right again after a restart', async (t) => {
  const path = join(directory(t), 'state.sqlite3')
  const store = open(t, { path })
  const session = await opened(store)
  await uploaded(store, session, 5)
  await reserved(store, session, 3)
  const before = await store.inventory()
  await store.close()
  const database = new SqlDatabase(path)
  database.exec('UPDATE totals SET bytes = 99, sessions = 7, reserved_bytes = 1')
  database.exec('UPDATE sessions SET used_bytes = 99, reserved_bytes = 99')
  database.close()
  const again = open(t, { path, policy: policyWith({ maxSessionBytes: 10 }) })
  t.strictSame(await again.inventory(), before)
  t.match(await again.reserveBytes(session, 2), { ok: true, evicted: [] })
})

t.test('refresh_on_startup forgets what was stored', async (t) => {
  const root = directory(t)
  const [path, snapshotPath] = [join(root, 'state.sqlite3'), join(root, 'snapshot.sqlite3')]
  for (const type of ['disk', 'memory'] as const) {
    const store = open(t, { type, path, snapshotPath })
    // oxlint-disable-next-line no-await-in-loop -- one store at a time
    await fill(store)
    // oxlint-disable-next-line no-await-in-loop -- one store at a time
    await store.close()
    const again = open(t, { type, path, snapshotPath, refreshOnStartup: true })
    // oxlint-disable-next-line no-await-in-loop -- one store at a time
    t.match(await again.inventory(), { sessions: 0, uploads: 0, bytes: 0 })
  }
})

t.test('a full disk fails what it must, and the store recovers by itself', async (t) => {
  const database = new SqlDatabase(':memory:')
  prepareSchema(database)
  const store = new SqlStore(database, {
    policy: OPEN_POLICY,
    clock: Date.now,
    onWarning: () => undefined,
    close: () => database.close(),
  })
  t.teardown(() => store.close())
  const session = await opened(store)
  const pages = database.get<readonly [number]>('PRAGMA page_count')?.[0] ?? 0
  database.get(`PRAGMA max_page_count = ${pages}`)
  const large = newSession({ initializeParams: { text: 'x'.repeat(100_000) } })
  await t.rejects(store.openSession(large), { name: 'StoreUnavailableError' })
  t.strictSame((await store.readSession(session))?.record, session)
  t.match(await store.inventory(), { sessions: 1 })
  database.get('PRAGMA max_page_count = 100000')
  t.equal(await store.openSession(large), 'opened')
})

t.test('in one batch a request that fails leaves no trace and disturbs no other', async (t) => {
  const store = open(t, { type: 'memory' })
  const [first, second] = [await opened(store), newSession()]
  const { reservationId } = await reserved(store, first, 10)
  const [artifact, twice] = [newArtifact(), newUpload(5)]
  const { answers } = store.performAll([
    ['openSession', [second]],
    ['openSession', [second]],
    ['allocateArtifact', [second, artifact]],
    // Fails at the second of the two, when the first is stored and the reservation is used up.
    ['commitUploads', [first, reservationId, [twice, twice]]],
    ['inventory', []],
    ['commitArtifact', [second, artifact.artifactId, finalOf(4)]],
    ['commitUploads', [first, reservationId, [twice]]],
    ['inventory', []],
  ])
  t.strictSame(
    answers.map(({ ok }) => ok),
    [true, false, true, false, true, true, true, true],
  )
  t.match(answers[4], { value: { sessions: 2, uploads: 0, bytes: 0, reservedBytes: 10 } })
  t.match(answers[6], { value: { ok: true } })
  t.match(answers[7], { value: { uploads: 1, artifacts: 1, bytes: 9, reservedBytes: 0 } })
})
