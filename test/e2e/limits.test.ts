/** Limits hold exactly, over HTTP, when everybody asks at once; what has expired is gone at its next use, cleaned up or not. */
import { createHash } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'

import { eventually } from '../support/eventually.ts'
import { FileRig, INITIALIZE, MCP_HEADERS, uploadAnswer } from '../support/file-rig.ts'

t.setTimeout(600_000)

const KB = 1_000

/** Bytes of all files below the sessions' directory. */
async function bytesOnDisk(rig: FileRig): Promise<number> {
  const root = join(rig.replica.root, 'sessions')
  const entries = await readdir(root, { recursive: true, withFileTypes: true }).catch(() => [])
  const sizes = await Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map(async (entry) => (await stat(join(entry.parentPath, entry.name))).size),
  )
  return sizes.reduce((sum, size) => sum + size, 0)
}

/** How many answers have each status. */
function count(answers: readonly { readonly status: number }[]): Record<number, number> {
  const counts: Record<number, number> = {}
  for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1
  return counts
}

function times<T>(n: number, work: (index: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: n }, (_, index) => work(index)))
}

async function isThere(rig: FileRig, session: string, handle: string): Promise<boolean> {
  const answer = await rig.call(session, 'read_file', { path: handle })
  return answer.text.includes('sha256')
}

t.test(
  'sessions.max_active: of many that start at once exactly so many do, and one that ends makes room for one',
  async (t) => {
    const rig = await FileRig.start({ core: { workers: 2 }, sessions: { max_active: 5 } })
    t.teardown(() => rig.stop())
    const answers = await times(25, () => rig.post(INITIALIZE))
    t.same(count(answers), { 200: 5, 429: 20 })
    const refused = answers.find(({ status }) => status === 429)
    t.match(refused?.message, {
      id: 1,
      error: { data: { code: 'ADAPTER_SESSION_LIMIT', retryable: true } },
    })
    const [open] = answers.flatMap(({ headers }) => headers.get('mcp-session-id') ?? [])
    const ended = await fetch(`${rig.url}/mcp/files`, {
      method: 'DELETE',
      headers: { 'mcp-session-id': open ?? '' },
    })
    t.equal(ended.status, 200)
    t.same(count(await times(10, () => rig.post(INITIALIZE))), { 200: 1, 429: 9 })
    t.equal((await rig.inventory())['sessions_count'], 5)
    await eventually(
      'the upstream holds no more sessions than there are',
      () => rig.upstream.sessions() === 5,
    )
  },
)

t.test(
  'sessions.max_in_flight_per_session: more calls at once are refused, each session by itself, and the slots come back',
  async (t) => {
    const rig = await FileRig.start({
      core: { workers: 2 },
      sessions: { max_in_flight_per_session: 3 },
    })
    t.teardown(() => rig.stop())
    const [one, two] = [await rig.openSession(), await rig.openSession()]
    for (const round of ['first', 'second']) {
      const [ofOne, ofTwo] = await Promise.all(
        [one, two].map((session) => times(10, () => rig.call(session, 'slow', { ms: 300 }))),
      )
      t.same(count(ofOne ?? []), { 200: 3, 429: 7 }, `${round} round`)
      t.same(count(ofTwo ?? []), { 200: 3, 429: 7 }, `${round} round, another session`)
    }
    const before = rig.upstream.calls.length
    const aborted = new AbortController()
    const left = times(3, (index) =>
      fetch(`${rig.url}/mcp/files`, {
        method: 'POST',
        headers: { ...MCP_HEADERS, 'mcp-session-id': one },
        body: `{"jsonrpc":"2.0","id":${index},"method":"tools/call","params":{"name":"slow","arguments":{"ms":3000}}}`,
        signal: aborted.signal,
      }).catch(() => undefined),
    )
    await eventually('the slots are taken', () => rig.upstream.calls.length === before + 3)
    t.equal((await rig.call(one, 'echo')).status, 429)
    aborted.abort()
    await left
    await eventually(
      'the slots of clients that left come back',
      async () => (await rig.call(one, 'echo')).status === 200,
    )
  },
)

t.test(
  'one upload URL takes one upload: of 50 at once one wins, and one that fails uses nothing up',
  async (t) => {
    const rig = await FileRig.start({ core: { workers: 2 } })
    t.teardown(() => rig.stop())
    const session = await rig.openSession()
    const url = await rig.uploadUrl(session)
    const wrong = await rig.put(`${url}&sha256=${'0'.repeat(64)}`, 'content')
    t.match(wrong, { status: 422, json: { error: 'ADAPTER_UPLOAD_DIGEST_MISMATCH' } })
    t.match(await rig.put(url, Buffer.alloc(11 * 1024 * 1024)), { status: 413 }, 'too large')
    const answers = await times(50, (index) => rig.put(url, `content ${index}`))
    t.same(count(answers), { 200: 1, 410: 49 })
    t.match(answers.find(({ status }) => status === 410)?.json, {
      error: 'ADAPTER_UPLOAD_TICKET_USED',
    })
    const winner = answers.findIndex(({ status }) => status === 200)
    const read = await rig.call(session, 'read_file', {
      path: answers[winner]?.json['upload_handle'],
    })
    t.match(read.text, createHash('sha256').update(`content ${winner}`).digest('hex'))
    t.match(await rig.inventory(), { uploads_count: 1, reserved_bytes: 0 })
    t.equal(await bytesOnDisk(rig), `content ${winner}`.length, 'the losers left no file')
  },
)

t.test(
  'sessions.max_total_session_size: never exceeded by uploads at once; the least recently used goes first',
  async (t) => {
    const rig = await FileRig.start({
      core: { workers: 2 },
      sessions: { max_total_session_size: 1_000 * KB },
    })
    t.teardown(() => rig.stop())
    const crowded = await rig.openSession()
    const urls = await times(30, () => rig.uploadUrl(crowded))
    let highest = 0
    const watch = { isOver: false }
    const watching = (async () => {
      while (!watch.isOver) {
        const { bytes = 0, reserved_bytes: reserved = 0 } = await rig.inventory()
        highest = Math.max(highest, bytes + reserved)
      }
    })()
    const answers = await Promise.all(urls.map((url) => rig.put(url, Buffer.alloc(130 * KB))))
    watch.isOver = true
    await watching
    t.ok(highest <= 1_000 * KB, `at most ${highest} bytes stored and reserved`)
    for (const status of Object.keys(count(answers))) t.match(status, /^(200|507)$/)
    const handles = answers.flatMap(({ json }) =>
      typeof json['upload_handle'] === 'string' ? [json['upload_handle']] : [],
    )
    const there = await Promise.all(handles.map((handle) => isThere(rig, crowded, handle)))
    const kept = there.filter(Boolean).length
    t.equal(kept, 7, 'as many as fit are kept')
    t.match(await rig.inventory(), { bytes: kept * 130 * KB, reserved_bytes: 0 })
    await eventually(
      'the disk holds exactly them',
      async () => (await bytesOnDisk(rig)) === kept * 130 * KB,
    )

    const session = await rig.openSession()
    const [a, b, c] = [
      await rig.upload(session, Buffer.alloc(300 * KB, 'a')),
      await rig.upload(session, Buffer.alloc(300 * KB, 'b')),
      await rig.upload(session, Buffer.alloc(300 * KB, 'c')),
    ]
    const report = await rig.call(session, 'write_report', {
      filename: 'kept.txt',
      content: 'x'.repeat(90 * KB),
    })
    const artifact = /"artifact_uri":"([^"]+)"/.exec(report.text)?.[1] ?? ''
    t.ok(await isThere(rig, session, a), 'the oldest is used again')
    const d = await rig.upload(session, Buffer.alloc(300 * KB, 'd'))
    t.notOk(await isThere(rig, session, b), 'so the second goes for the fourth')
    for (const handle of [a, c, d]) t.ok(await isThere(rig, session, handle))
    const whole = await rig.put(await rig.uploadUrl(session), Buffer.alloc(1_000 * KB + 1))
    t.match(
      whole,
      { status: 507, json: { error: 'ADAPTER_SESSION_QUOTA' } },
      'more than all of it never fits',
    )
    for (const handle of [a, c, d]) t.ok(await isThere(rig, session, handle), 'and evicts nothing')
    const e = await rig.upload(session, Buffer.alloc(900 * KB, 'e'))
    t.ok(await isThere(rig, session, e))
    for (const handle of [a, c, d]) t.notOk(await isThere(rig, session, handle), 'uploads go first')
    const read = { jsonrpc: '2.0', id: 1, method: 'resources/read', params: { uri: artifact } }
    t.match((await rig.post(read, session)).message, { result: {} }, 'artifacts last')
  },
)

t.test('storage.max_size: exact over all sessions, without taking from anybody', async (t) => {
  const rig = await FileRig.start({ core: { workers: 2 }, storage: { max_size: 1_000 * KB } })
  t.teardown(() => rig.stop())
  const sessions = await times(4, () => rig.openSession())
  const attempts = sessions.flatMap((session) => Array.from({ length: 6 }, () => session))
  const urls = await Promise.all(attempts.map((session) => rig.uploadUrl(session)))
  const answers = await Promise.all(urls.map((url) => rig.put(url, Buffer.alloc(130 * KB))))
  t.same(count(answers), { 200: 7, 507: 17 })
  t.match(answers.find(({ status }) => status === 507)?.json, { error: 'ADAPTER_GLOBAL_QUOTA' })
  const there = await Promise.all(
    answers.map(async ({ json }, index) => {
      const handle = json['upload_handle']
      return typeof handle === 'string' && isThere(rig, attempts[index] ?? '', handle)
    }),
  )
  t.equal(there.filter(Boolean).length, 7, 'every acknowledged file is there')
  t.match(await rig.inventory(), { bytes: 7 * 130 * KB, reserved_bytes: 0 })
  t.equal(await bytesOnDisk(rig), 7 * 130 * KB)
  const form = new FormData()
  for (const name of ['a', 'b']) form.append('file', new Blob([Buffer.alloc(60 * KB)]), name)
  const both = await uploadAnswer(
    await fetch(await rig.uploadUrl(sessions[0] ?? ''), { method: 'POST', body: form }),
  )
  t.equal(both.status, 507, 'a form of which only a part fits leaves none of it')
  t.equal(await bytesOnDisk(rig), 7 * 130 * KB)
})

t.test('artifacts.max_per_session: of many at once exactly so many are kept', async (t) => {
  const rig = await FileRig.start({ core: { workers: 2 }, artifacts: { max_per_session: 3 } })
  t.teardown(() => rig.stop())
  const session = await rig.openSession()
  const answers = await times(12, (index) =>
    rig.call(session, 'write_report', { filename: `${index}.txt`, content: 'x' }),
  )
  t.same(count(answers), { 200: 12 })
  const kept = answers.filter(({ text }) => text.includes('"artifact_uri"'))
  t.equal(kept.length, 3)
  for (const { message } of answers.filter((answer) => !kept.includes(answer)))
    t.match(message, { result: { isError: true } }, 'the others say that they were not')
  const list = await rig.post({ jsonrpc: '2.0', id: 1, method: 'resources/list' }, session)
  t.equal(list.text.match(/artifact:\/\//g)?.length, 3)
  t.match(await rig.inventory(), { artifacts_count: 3, pending_artifacts_count: 0, bytes: 3 })
})

t.test('what has expired is refused at its next use, though nothing cleans up', async (t) => {
  const rig = await FileRig.start({
    core: { cleanup_interval_seconds: null, auth: { signed_upload_ttl_seconds: 2 } },
    uploads: { ttl_seconds: 2 },
    artifacts: { ttl_seconds: 2 },
    sessions: { idle_ttl_seconds: 5, allow_revival: false },
  })
  t.teardown(() => rig.stop())
  const session = await rig.openSession()
  const url = await rig.uploadUrl(session)
  const handle = await rig.upload(session, 'upload')
  const report = await rig.call(session, 'write_report', { filename: 'r.txt', content: 'artifact' })
  const uri = /"artifact_uri":"([^"]+)"/.exec(report.text)?.[1]
  const download = /"download_url":"([^"]+)"/.exec(report.text)?.[1] ?? ''
  const read = { jsonrpc: '2.0', id: 1, method: 'resources/read', params: { uri } }
  t.ok(await isThere(rig, session, handle), 'before its time all is there')
  t.match((await rig.post(read, session)).message, { result: {} })
  await delay(3_100) // their time, and a whole second for clocks that count in seconds
  t.match(await rig.inventory(), { uploads_count: 1, artifacts_count: 1 }, 'nothing was cleaned up')
  t.notOk(await isThere(rig, session, handle), 'the upload')
  t.match((await rig.post(read, session)).message, { error: {} }, 'the artifact')
  t.equal((await fetch(download)).status, 404, 'its download')
  t.match(
    await rig.put(url, 'x'),
    { status: 403, json: { error: 'ADAPTER_UPLOAD_TICKET_EXPIRED' } },
    'the upload URL',
  )
  t.equal((await rig.call(session, 'echo')).status, 200, 'the session was used in time')
  await delay(6_200) // uses are noted with a delay of up to a second
  t.equal((await rig.call(session, 'echo')).status, 404, 'then it was not')
})
