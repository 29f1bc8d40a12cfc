/**
 * Whatever moment the process is killed at: what was acknowledged is there after a restart, what was not leaves no trace, and the books agree with
 * the disk.
 */
import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { eventually } from '../support/eventually.ts'
import { FileRig } from '../support/file-rig.ts'
import { HOST, pathOf, RawConnection } from '../support/raw-http.ts'

t.setTimeout(600_000)

const SECTIONS = {
  core: { auth: { signed_upload_ttl_seconds: 600 } },
  uploads: { ttl_seconds: 3_600 },
  artifacts: { ttl_seconds: 3_600 },
}
const ROUNDS = 14

interface Acknowledged {
  readonly handle: string
  readonly sha256: string
}

interface StoredFile {
  readonly name: string
  readonly sizeBytes: number
}

/** A directory of a replica, used by one process after the other. */
const directory = await mkdtemp(join(tmpdir(), 'adapter-durability-'))
const rig = await FileRig.start(SECTIONS, directory)
const session = await rig.openSession()
const acknowledged: Acknowledged[] = []
t.teardown(async () => {
  await rig.stop()
  await rm(directory, { recursive: true, force: true })
})

async function storedFiles(): Promise<StoredFile[]> {
  const root = join(directory, 'data', 'sessions')
  const entries = await readdir(root, { recursive: true, withFileTypes: true }).catch(() => [])
  return Promise.all(
    entries
      .filter((entry) => !entry.isDirectory())
      .map(async ({ name, parentPath }) => ({
        name,
        sizeBytes: (await stat(join(parentPath, name))).size,
      })),
  )
}

/** Uploads, and notes the file as soon as, and only when, it is acknowledged. */
async function upload(url: string, content: Uint8Array): Promise<boolean> {
  try {
    const answer = await rig.put(url, content)
    const handle = answer.json['upload_handle']
    if (answer.status !== 200 || typeof handle !== 'string') return false
    acknowledged.push({ handle, sha256: createHash('sha256').update(content).digest('hex') })
    return true
  } catch {
    return false // killed
  }
}

/** What must be so after every restart. */
async function assertConsistent(t: Test, round: string): Promise<void> {
  const files = await storedFiles()
  const partial = files.filter(({ name }) => name.endsWith('.part') || name.startsWith('.'))
  t.same(partial, [], `${round}: no half-written file is left`)
  const inventory = await rig.inventory()
  const onDisk = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  t.equal(inventory['bytes'], onDisk, `${round}: bytes in use are the bytes on disk`)
  t.equal(inventory['reserved_bytes'], 0, `${round}: nothing is reserved`)
  t.equal(inventory['pending_artifacts_count'], 0, `${round}: no artifact is pending`)
  const records = (inventory['uploads_count'] ?? 0) + (inventory['artifacts_count'] ?? 0)
  t.equal(records, files.length, `${round}: every file has its record`)
  const missing: string[] = []
  for (const { handle, sha256 } of acknowledged) {
    const answer = await rig.call(session, 'read_file', { path: handle })
    if (!answer.text.includes(sha256)) missing.push(`${handle}: ${answer.text}`)
  }
  t.same(
    missing,
    [],
    `${round}: all ${acknowledged.length} acknowledged files are there, unchanged`,
  )
}

async function killAndRestart(): Promise<void> {
  await rig.replica.kill()
  await rig.restart(SECTIONS, directory)
}

t.test(
  'killed in the middle of a body: nothing of the file is left, and its URL can be used again',
  async (t) => {
    t.ok(await upload(await rig.uploadUrl(session), randomBytes(200_000)))
    const url = await rig.uploadUrl(session)
    const connection = new RawConnection(rig.port)
    connection.send(`PUT ${pathOf(url)} HTTP/1.1\r\n${HOST}Content-Length: 8000000\r\n\r\n`)
    connection.send(randomBytes(4_000_000))
    await eventually('half of it is on the disk', async () =>
      (await storedFiles()).some(
        ({ name, sizeBytes }) => name.endsWith('.part') && sizeBytes > 1_000_000,
      ),
    )
    await killAndRestart()
    connection.destroy()
    await assertConsistent(t, 'mid-body')
    t.ok(await upload(rig.url + pathOf(url), randomBytes(1_000)), 'the URL was not used up')
    await assertConsistent(t, 'after the second try')
  },
)

t.test('killed at any moment of uploads and tool calls', async (t) => {
  let acknowledgedRounds = 0
  for (let round = 0; round < ROUNDS; round++) {
    const before = acknowledged.length
    const urls = await Promise.all(Array.from({ length: 12 }, () => rig.uploadUrl(session)))
    // Small ones commit at once, larger ones are still arriving; the kill falls where it falls.
    const uploads = urls.map((url, index) =>
      upload(url, randomBytes(index % 2 === 0 ? 2_000 : 1_500_000)),
    )
    const calls = Array.from({ length: 3 }, (_, index) =>
      rig
        .call(session, 'write_report', { filename: `r${index}.txt`, content: 'x'.repeat(50_000) })
        .catch(() => undefined),
    )
    // In every other round the first commits are under way when it falls.
    if (round % 2 === 1) await Promise.race(uploads)
    await delay(Math.random() * (round % 2 === 1 ? 60 : 300))
    await killAndRestart()
    await Promise.all([...uploads, ...calls])
    if (acknowledged.length > before) acknowledgedRounds++
    await assertConsistent(t, `round ${round}`)
  }
  t.ok(
    acknowledgedRounds > ROUNDS / 4,
    `${acknowledged.length} files were acknowledged in ${acknowledgedRounds} of ${ROUNDS} rounds`,
  )
})

t.test('killed right after the acknowledgement: the file is there', async (t) => {
  for (let round = 0; round < 3; round++) {
    const connection = new RawConnection(rig.port)
    const content = randomBytes(300_000)
    connection.send(
      `PUT ${pathOf(await rig.uploadUrl(session))} HTTP/1.1\r\n${HOST}Content-Length: ${content.byteLength}\r\n\r\n`,
    )
    connection.send(content)
    const answer = await connection.response()
    process.kill(rig.replica.pid, 'SIGKILL')
    t.equal(answer.status, 200)
    const { upload_handle: handle } = JSON.parse(answer.body) as { upload_handle: string } // the endpoint's answer
    acknowledged.push({ handle, sha256: createHash('sha256').update(content).digest('hex') })
    await killAndRestart()
  }
  await assertConsistent(t, 'after the acknowledgement')
})

t.test('the session goes on after all that, and a file can be read as an artifact', async (t) => {
  const report = await rig.call(session, 'write_report', {
    filename: 'last.txt',
    content: 'last words',
  })
  const uri = /"artifact_uri":"([^"]+)"/.exec(report.text)?.[1]
  await killAndRestart()
  const read = await rig.post(
    { jsonrpc: '2.0', id: 1, method: 'resources/read', params: { uri } },
    session,
  )
  t.match(read.text, 'last words')
  await assertConsistent(t, 'at the end')
})
