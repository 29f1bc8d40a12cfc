/** Uploads through real sockets: what gets in, under which name and type, and what it costs. */
/* oxlint-disable no-await-in-loop -- tests do one thing after another */
import { createHash } from 'node:crypto'

import t from 'tap'

import { sessionRecord, startRig, tree } from './files-fixture.ts'
import {
  contentOf,
  filePart,
  form,
  part,
  pour,
  raw,
  send,
  sha256,
  stored,
  streamOf,
} from './files-upload-client.ts'

t.setTimeout(600_000)

t.test('an uploaded file is stored, described and usable, once per URL', async (t) => {
  const rig = await startRig(t)
  const target = rig.uploadTarget()
  const file = new File(['hello'], 'Grüße 日本.txt', { type: 'text/plain' })
  const answer = await send(rig, target, { method: 'POST', body: form(['file', file]) })
  t.equal(answer.status, 200)
  t.equal(answer.headers.get('cache-control'), 'no-store')
  const [record] = await stored(rig, answer)
  const described = {
    upload_id: record?.uploadId,
    filename: 'Grüße 日本.txt',
    mime_type: 'text/plain',
    size_bytes: 5,
    sha256: sha256('hello'),
  }
  const handle = `upload://sessions/${rig.key.sessionId}/${record?.uploadId}`
  t.same(answer.json, {
    server_id: 'srv',
    session_id: rig.key.sessionId,
    uploads: [{ upload_handle: handle, ...described }],
    upload_handles: [handle],
    count: 1,
    upload_handle: handle,
    upload: described,
  })
  if (record) t.equal((await contentOf(rig, record)).toString(), 'hello')
  t.equal((await tree(rig.files.root)).length, 1, 'no temporary file is left')
  t.same(await rig.store.inventory().then((i) => [i.bytes, i.reservedBytes]), [5, 0])
  const again = await send(rig, target, { method: 'POST', body: form(['file', file]) })
  t.equal(again.status, 410)
  t.equal(again.json['error'], 'ADAPTER_UPLOAD_TICKET_USED')
  t.equal((await send(rig, target)).status, 410, 'the form is gone as well')
})

t.test('digests pair with files by position, wherever they stand in the form', async (t) => {
  const rig = await startRig(t)
  const [a, b, c] = ['aaa', 'bbb', 'ccc'].map((text) => new File([text], `${text}.bin`))
  if (!a || !b || !c) return
  const body = form(
    ['sha256', sha256('aaa').toUpperCase()],
    ['file', a],
    ['sha256', ' '],
    ['file', b],
    ['file', c],
    ['sha256', sha256('bbb')],
    ['note', 'other fields are ignored'],
    ['sha256', sha256('ccc')],
  )
  const answer = await send(rig, rig.uploadTarget(), { method: 'POST', body })
  t.equal(answer.status, 200)
  t.equal(answer.json['count'], 3)
  t.notOk('upload' in answer.json, 'no single upload among several')
  const records = await stored(rig, answer)
  t.same(
    records.map((record) => record.filename),
    ['aaa.bin', 'bbb.bin', 'ccc.bin'],
  )
})

t.test('digests are demanded where the configuration says so', async (t) => {
  const rig = await startRig(t, { uploads: { requireSha256: true } })
  const target = rig.uploadTarget()
  const file = ['file', new File(['1'], '1.txt')] as const
  const without = await send(rig, target, { method: 'POST', body: form(file) })
  t.equal(without.json['error'], 'ADAPTER_UPLOAD_DIGEST_REQUIRED')
  const withDigest = form(file, ['sha256', sha256('1')])
  t.equal((await send(rig, target, { method: 'POST', body: withDigest })).status, 200)
})

t.test('names are made safe, and missing ones replaced', async (t) => {
  const rig = await startRig(t)
  const body = [
    filePart('..\\..\\evil.txt'),
    filePart('/etc/passwd'),
    filePart('.bashrc'),
    part('Content-Disposition: form-data; name="file"'),
    part(
      `Content-Disposition: form-data; name="file"; filename*=UTF-8''na%C3%AFve%20%E2%82%AC.txt`,
    ),
    part('Content-Disposition: form-data; name="file"; filename="a\\"b.txt"'),
    filePart(`${'n'.repeat(400)}.pdf`),
    '--B--\r\n',
  ].join('')
  const answer = await send(rig, rig.uploadTarget(), raw(body))
  t.equal(answer.status, 200)
  t.same(
    (await stored(rig, answer)).map((record) => record.filename),
    ['evil.txt', 'passwd', '_bashrc', 'upload', 'naïve €.txt', 'a_b.txt', `${'n'.repeat(251)}.pdf`],
  )
  const paths = await tree(rig.files.root)
  t.ok(paths.every((path) => path.startsWith(`sessions/srv/${rig.key.sessionId}/uploads/`)))
})

const typed = (name: string, type: string, content: string) =>
  part(
    `Content-Disposition: form-data; name="file"; filename="${name}"\r\nContent-Type: ${type}`,
    content,
  )

t.test('media types: what is declared, unless that says little', async (t) => {
  const rig = await startRig(t)
  const body = [
    typed('a.bin', 'image/x-custom', 'x'),
    typed('a.csv', 'application/octet-stream', 'a,b'),
    typed('a', 'application/octet-stream', '%PDF-1.4'),
    typed('a.md', 'text/plain', '# a'),
    typed('a.bin', 'text/html\tinvalid', 'x\0'),
    filePart('a.json', '{}'),
    '--B--',
  ].join('')
  const answer = await send(rig, rig.uploadTarget(), raw(body))
  t.equal(answer.status, 200)
  const types = (await stored(rig, answer)).map((record) => record.mimeType)
  t.same(types.slice(0, 4), ['image/x-custom', 'text/csv', 'application/pdf', 'text/markdown'])
  t.equal(types[5], 'application/json')
})

t.test('an empty file is a file; an empty choice of a browser is none', async (t) => {
  const rig = await startRig(t)
  const answer = await send(rig, rig.uploadTarget(), raw(`${filePart('empty.txt', '')}--B--`))
  t.equal(answer.json['count'], 1)
  t.equal((await stored(rig, answer))[0]?.sizeBytes, 0)
  const target = rig.uploadTarget()
  const nothing = await send(rig, target, raw(`${filePart('', '')}--B--`))
  t.equal(nothing.status, 400)
  t.match(nothing.json['detail'], /no file/)
  const mixed = await send(rig, target, raw(`${filePart('', '')}${filePart('a.txt')}--B--`))
  t.equal(mixed.json['count'], 1)
})

t.test('a session may be filled to its last byte, and no further', async (t) => {
  const rig = await startRig(t, { policy: { maxSessionBytes: 1_000_000 } })
  const target = rig.uploadTarget()
  const over = form(['file', new File(['x'.repeat(1_000_001)], 'a.txt')])
  const refused = await send(rig, target, { method: 'POST', body: over })
  t.equal(refused.status, 507)
  t.equal(refused.json['error'], 'ADAPTER_SESSION_QUOTA')
  t.same(await tree(rig.files.root), [])
  const exact = form(
    ['file', new File(['x'.repeat(999_999)], 'a.txt')],
    ['file', new File(['y'], 'b.txt')],
  )
  t.equal((await send(rig, target, { method: 'POST', body: exact })).status, 200)
  t.same(await rig.store.inventory().then((i) => [i.bytes, i.reservedBytes]), [1_000_000, 0])
})

t.test('what is evicted to make room is gone from disk', async (t) => {
  const rig = await startRig(t, { policy: { maxSessionBytes: 1000 } })
  for (const name of ['old', 'new']) {
    const target = `${rig.uploadTarget()}&filename=${name}`
    t.equal((await send(rig, target, { method: 'PUT', body: 'x'.repeat(600) })).status, 200)
  }
  const paths = await tree(rig.files.root)
  t.equal(paths.length, 1)
  t.match(paths[0], /\/new$/)
})

t.test('the global quota counts all sessions', async (t) => {
  const rig = await startRig(t, { policy: { maxTotalBytes: 1000 } })
  const other = sessionRecord('srv')
  await rig.store.openSession(other)
  t.equal(
    (await send(rig, rig.uploadTarget(), { method: 'PUT', body: 'x'.repeat(900) })).status,
    200,
  )
  const answer = await send(rig, rig.uploadTarget({ key: other }), {
    method: 'PUT',
    body: 'x'.repeat(101),
  })
  t.equal(answer.status, 507)
  t.equal(answer.json['error'], 'ADAPTER_GLOBAL_QUOTA')
})

t.test('a body of unknown length reserves as it grows, and is counted as it is', async (t) => {
  const rig = await startRig(t, { policy: { maxSessionBytes: 9_500_000 } })
  const put = (count: number) =>
    send(rig, rig.uploadTarget(), { method: 'PUT', body: streamOf(count), duplex: 'half' })
  t.equal((await put(96)).status, 507)
  t.same(await rig.store.inventory().then((i) => [i.bytes, i.reservedBytes]), [0, 0])
  const exact = await put(95)
  t.equal(exact.status, 200)
  t.equal((await stored(rig, exact))[0]?.sha256, sha256(Buffer.alloc(9_500_000, 1)))
  t.same(await rig.store.inventory().then((i) => [i.bytes, i.reservedBytes]), [9_500_000, 0])
})

t.test('PUT takes one bare file', async (t) => {
  const rig = await startRig(t)
  const put = (query: string, headers: Record<string, string>, body = 'hello') =>
    send(rig, rig.uploadTarget() + query, { method: 'PUT', headers, body })
  const base64 = createHash('sha256').update('hello').digest('base64')
  const cases: readonly [
    query: string,
    headers: Record<string, string>,
    filename: string,
    type: string,
  ][] = [
    ['&filename=r%C3%A9sum%C3%A9.pdf', {}, 'résumé.pdf', 'application/pdf'],
    ['', { 'content-disposition': 'attachment; filename="a b.txt"' }, 'a b.txt', 'text/plain'],
    ['', { 'content-disposition': 'attachment; filename=a.txt' }, 'a.txt', 'text/plain'],
    [
      '',
      { 'content-disposition': `attachment; filename="x"; filename*=UTF-8''%E2%82%AC.txt` },
      '€.txt',
      'text/plain',
    ],
    ['', { 'content-type': 'image/png' }, 'upload.png', 'image/png'],
    ['', { 'content-type': 'application/x-www-form-urlencoded' }, 'upload', 'text/plain'],
    [`&sha256=${sha256('hello')}`, {}, 'upload', 'text/plain'],
    ['', { 'content-digest': `sha-512=:AA==:, sha-256=:${base64}:` }, 'upload', 'text/plain'],
  ]
  for (const [query, headers, filename, type] of cases) {
    const answer = await put(query, { 'content-type': 'application/octet-stream', ...headers })
    t.equal(answer.status, 200, answer.text)
    const [record] = await stored(rig, answer)
    t.same([record?.filename, record?.mimeType], [filename, type])
  }
  t.equal((await put('', {}, '')).status, 200, 'also an empty one')
  t.equal((await put(`&sha256=${sha256('other')}`, {})).status, 422)
  t.equal((await put('&sha256=12', {})).status, 400)
  t.equal((await put('', { 'content-digest': 'sha-256=:AAAA:' })).status, 400)
  const both = await put(`&sha256=${sha256('other')}`, { 'content-digest': `sha-256=:${base64}:` })
  t.equal(both.status, 400, 'two digests that differ')
})

t.test('a person gets a form that works alone, and pages for answers', async (t) => {
  const rig = await startRig(t)
  const target = rig.uploadTarget()
  const page = await send(rig, target)
  t.equal(page.status, 200)
  t.match(page.headers.get('content-type'), 'text/html')
  t.match(page.text, '<form method="post" enctype="multipart/form-data">')
  t.match(page.text, rig.key.sessionId.slice(0, 8))
  t.notMatch(page.text, rig.key.sessionId, 'the session id is not shown whole')
  t.match(page.text, '10 MiB')
  t.notMatch(page.text, /(?:src|href)=/, 'nothing is loaded from elsewhere')
  const csp = page.headers.get('content-security-policy') ?? ''
  for (const tag of ['script', 'style']) {
    const source = page.text.split(`<${tag}>`)[1]?.split(`</${tag}>`)[0] ?? ''
    const hash = createHash('sha256').update(source).digest('base64')
    t.match(csp, `${tag}-src 'sha256-${hash}'`, `the policy admits the page's own ${tag}`)
  }
  t.match(csp, "default-src 'none'")
  t.equal(page.headers.get('referrer-policy'), 'no-referrer')
  const headers = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' }
  const file = new File(['hello'], '<b>&"quotes".txt')
  const done = await send(rig, target, { method: 'POST', headers, body: form(['file', file]) })
  t.equal(done.status, 200)
  t.match(done.text, 'Upload complete')
  t.match(done.text, 'upload://sessions/')
  t.notMatch(done.text, '<b>', 'names are escaped')
  const used = await send(rig, target, { headers })
  t.equal(used.status, 410)
  t.match(used.text, 'used already')
  const demanding = await startRig(t, { uploads: { requireSha256: true, maxFileBytes: 1_500_000 } })
  const strict = await send(demanding, demanding.uploadTarget())
  t.match(strict.text, 'name="sha256"')
  t.match(strict.text, '1.4 MiB')
})

t.test('memory stays constant whatever the size', async (t) => {
  const rig = await startRig(t, { uploads: { maxFileBytes: 1024 ** 3 } })
  await pour(rig, 256)
  const before = process.memoryUsage().rss
  let peak = before
  const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage().rss)), 10)
  const answer = await pour(rig, 4096)
  clearInterval(watch)
  t.match(answer, '"size_bytes":268435456')
  const grownMiB = (peak - before) / 1024 ** 2
  t.ok(grownMiB < 128, `memory grew by ${grownMiB.toFixed(0)} MiB for 256 MiB`)
})
