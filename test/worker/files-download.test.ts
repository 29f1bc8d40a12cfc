/** Downloads through real sockets: who may, which bytes, and under which headers. */
/* oxlint-disable no-await-in-loop -- tests do one thing after another */
import { createHash } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { rename, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import t from 'tap'

import { mintArtifactId, mintSessionId, type ArtifactId } from '../../src/shared/ids.ts'
import { contentDisposition } from '../../src/worker/files/download-endpoint.ts'
import { eventually } from '../support/eventually.ts'
import { startRig, tempRoot, type Rig } from './files-fixture.ts'

const CONTENT = '0123456789'
const MODIFIED = new Date('2024-05-06T07:08:09.500Z')

interface Stored {
  readonly id: ArtifactId
  readonly filename: string
  readonly path: string
  /** Path without a signature. */
  readonly target: string
  signed(expiresInSeconds?: number): string
}

async function store(
  rig: Rig,
  filename: string,
  content = CONTENT,
  mimeType = 'text/html',
): Promise<Stored> {
  const id = mintArtifactId()
  const artifact = { artifactId: id, filename, toolName: 'shot', exposeAsResource: true }
  await rig.store.allocateArtifact(rig.key, artifact)
  const ref = { ...rig.key, kind: 'artifacts', id } as const
  await rig.files.createItemDir(ref)
  const path = rig.files.itemPath(ref, filename)
  await writeFile(path, content)
  await utimes(path, MODIFIED, MODIFIED)
  const sha256 = createHash('sha256').update(content).digest('hex')
  const sizeBytes = Buffer.byteLength(content)
  await rig.store.commitArtifact(rig.key, id, { filename, mimeType, sizeBytes, sha256 })
  const target = `/artifacts/srv/${rig.key.sessionId}/${id}/${encodeURIComponent(filename)}`
  return {
    id,
    filename,
    path,
    target,
    signed: (expiresInSeconds = 60) => {
      const expiresAtSeconds = Math.floor(Date.now() / 1000) + expiresInSeconds
      const { serverId, sessionId } = rig.key
      const grant = { serverId, sessionId, artifactId: id, filename, expiresAtSeconds }
      return `${target}?${rig.signer.signDownload(grant)}`
    },
  }
}

async function get(rig: Rig, target: string, headers: Record<string, string> = {}, method = 'GET') {
  const response = await fetch(rig.origin + target, { method, headers })
  return { status: response.status, headers: response.headers, body: await response.text() }
}

t.test('a signed URL yields the file, to be saved and not to be run', async (t) => {
  const rig = await startRig(t)
  const file = await store(rig, 'Übersicht "1".html')
  const answer = await get(rig, file.signed())
  t.equal(answer.status, 200)
  t.equal(answer.body, CONTENT)
  const expected = {
    'content-type': 'text/html',
    'content-length': '10',
    'accept-ranges': 'bytes',
    etag: `"${createHash('sha256').update(CONTENT).digest('hex')}"`,
    'last-modified': 'Mon, 06 May 2024 07:08:09 GMT',
    'content-disposition': `attachment; filename="_bersicht _1_.html"; filename*=UTF-8''%C3%9Cbersicht%20%221%22.html`,
    'x-content-type-options': 'nosniff',
    'content-security-policy': "default-src 'none'; sandbox",
    'cache-control': 'private, no-cache',
  }
  for (const [name, value] of Object.entries(expected)) t.equal(answer.headers.get(name), value)
  const head = await get(rig, file.signed(), { range: 'bytes=0-1' }, 'HEAD')
  t.same([head.status, head.body, head.headers.get('content-length')], [200, '', '10'])
})

t.test('names can not break out of the header', (t) => {
  t.equal(
    contentDisposition('a"\r\nSet-Cookie: x\\%22;é😀.txt'),
    `attachment; filename="a___Set-Cookie: x__22;__.txt"; filename*=UTF-8''a%22%0D%0ASet-Cookie%3A%20x%5C%2522%3B%C3%A9%F0%9F%98%80.txt`,
  )
  t.equal(
    contentDisposition("it's (1)*.txt"),
    `attachment; filename="it's (1)*.txt"; filename*=UTF-8''it%27s%20%281%29%2A.txt`,
  )
  t.equal(contentDisposition('\ud800'), `attachment; filename="_"; filename*=UTF-8''_`)
  t.end()
})

const RANGES: readonly [
  range: string,
  status: number,
  body: string,
  contentRange: string | null,
][] = [
  ['bytes=0-3', 206, '0123', 'bytes 0-3/10'],
  ['bytes=4-', 206, '456789', 'bytes 4-9/10'],
  ['bytes=9-9', 206, '9', 'bytes 9-9/10'],
  ['bytes=5-100', 206, '56789', 'bytes 5-9/10'],
  ['bytes=-3', 206, '789', 'bytes 7-9/10'],
  ['bytes=-100', 206, CONTENT, 'bytes 0-9/10'],
  ['Bytes = 0 - 0', 206, '0', 'bytes 0-0/10'],
  ['bytes=10-', 416, '', 'bytes */10'],
  ['bytes=10-20', 416, '', 'bytes */10'],
  ['bytes=-0', 416, '', 'bytes */10'],
  ['bytes=5-2', 200, CONTENT, null],
  ['bytes=-', 200, CONTENT, null],
  ['bytes=a-b', 200, CONTENT, null],
  ['lines=0-1', 200, CONTENT, null],
  ['bytes=0-1,3-4', 200, CONTENT, null],
]

t.test('one range is served exactly', async (t) => {
  const rig = await startRig(t)
  const file = await store(rig, 'a.txt')
  for (const [range, status, body, contentRange] of RANGES) {
    const answer = await get(rig, file.signed(), { range })
    t.same([answer.status, answer.body], [status, body], range)
    t.equal(answer.headers.get('content-range'), contentRange, range)
  }
  const empty = await store(rig, 'empty.txt', '')
  t.equal((await get(rig, empty.signed(), { range: 'bytes=0-' })).status, 416)
  t.same((await get(rig, empty.signed())).status, 200)
})

t.test('conditions decide by the version that is stored', async (t) => {
  const rig = await startRig(t)
  const file = await store(rig, 'a.txt')
  const etag = `"${createHash('sha256').update(CONTENT).digest('hex')}"`
  const date = 'Mon, 06 May 2024 07:08:09 GMT'
  const later = 'Mon, 06 May 2024 08:00:00 GMT'
  const earlier = 'Mon, 06 May 2024 07:08:08 GMT'
  const cases: readonly [status: number, headers: Record<string, string>][] = [
    [304, { 'if-none-match': etag }],
    [304, { 'if-none-match': `"x", W/${etag}` }],
    [304, { 'if-none-match': '*' }],
    [200, { 'if-none-match': '"x"' }],
    [200, { 'if-none-match': '"x"', 'if-modified-since': later }],
    [304, { 'if-modified-since': date }],
    [304, { 'if-modified-since': later }],
    [200, { 'if-modified-since': earlier }],
    [200, { 'if-modified-since': 'yesterday' }],
    [304, { 'if-none-match': etag, range: 'bytes=0-1' }],
    [206, { range: 'bytes=0-1', 'if-range': etag }],
    [200, { range: 'bytes=0-1', 'if-range': `W/${etag}` }],
    [200, { range: 'bytes=0-1', 'if-range': '"old"' }],
    [206, { range: 'bytes=0-1', 'if-range': date }],
    [200, { range: 'bytes=0-1', 'if-range': later }],
  ]
  for (const [status, headers] of cases) {
    const answer = await get(rig, file.signed(), headers)
    t.equal(answer.status, status, JSON.stringify(headers))
    t.equal(answer.headers.get('etag'), etag)
    if (status === 304) t.equal(answer.body, '')
  }
})

t.test('who may download', async (t) => {
  const rig = await startRig(t)
  const file = await store(rig, 'a.txt')
  const other = await store(rig, 'b.txt')
  const session = rig.key.sessionId
  const cases: readonly [
    why: string,
    status: number,
    target: string,
    headers?: Record<string, string>,
  ][] = [
    ['its session in the header', 200, file.target, { 'mcp-session-id': session }],
    ['its session in the query', 403, `${file.target}?session_id=${session}`],
    ['nothing', 403, file.target],
    ['another session', 403, file.target, { 'mcp-session-id': mintSessionId() }],
    ['an expired URL', 404, file.signed(-1)],
    ['the signature of another file', 403, file.target + other.signed().slice(other.target.length)],
    [
      'a bad signature, whatever the header',
      403,
      `${file.target}?mcp_artifact_sig=0`,
      { 'mcp-session-id': session },
    ],
    ['another name', 404, file.target.replace('a.txt', 'c.txt'), { 'mcp-session-id': session }],
    ['no name', 404, file.target.replace('/a.txt', ''), { 'mcp-session-id': session }],
    [
      'a broken escape',
      404,
      file.target.replace('a.txt', '%E0%A4%A'),
      { 'mcp-session-id': session },
    ],
    ['another server', 404, file.target.replace('srv', 'other'), { 'mcp-session-id': session }],
    ['an id that is none', 404, file.target.replace(file.id, 'x'), { 'mcp-session-id': session }],
    [
      'an unknown artifact',
      404,
      file.target.replace(file.id, mintArtifactId()),
      { 'mcp-session-id': session },
    ],
  ]
  for (const [why, status, target, headers] of cases) {
    t.equal((await get(rig, target, headers)).status, status, why)
  }
  const method = await get(rig, file.signed(), {}, 'POST')
  t.same([method.status, method.headers.get('allow')], [405, 'GET, HEAD'])
  await rig.store.closeSession(rig.key)
  t.equal((await get(rig, file.signed())).status, 404, 'the session has ended')
  const off = await startRig(t, { allowDownloads: false })
  t.equal((await get(off, (await store(off, 'a.txt')).signed())).status, 404, 'downloads are off')
})

t.test('what is not the stored file is never served', async (t) => {
  const rig = await startRig(t)
  const outside = await tempRoot(t)
  await writeFile(join(outside, 'secret'), CONTENT)
  const file = await store(rig, 'a.txt')
  await rm(file.path)
  t.equal((await get(rig, file.signed())).status, 404, 'missing')
  await symlink(join(outside, 'secret'), file.path)
  t.equal((await get(rig, file.signed())).status, 404, 'a link, even to a file of the same size')
  await rm(file.path)
  await writeFile(file.path, 'changed!')
  t.equal((await get(rig, file.signed())).status, 404, 'another size')
  await writeFile(file.path, CONTENT)
  t.equal((await get(rig, file.signed())).status, 200)
  const session = rig.files.sessionDir(rig.key)
  await rename(session, join(outside, 'moved'))
  await symlink(join(outside, 'moved'), session)
  t.equal((await get(rig, file.signed())).status, 404, 'a link in place of a directory')
})

const count = () => readdirSync('/proc/self/fd').length

t.test('no descriptor is left open, whatever the answer', async (t) => {
  const rig = await startRig(t)
  const file = await store(rig, 'a.txt')
  await get(rig, file.signed())
  const before = count()
  for (let i = 0; i < 10; i++) {
    await get(rig, file.signed(), { 'if-none-match': '*' })
    await get(rig, file.signed(), { range: 'bytes=99-' })
    await get(rig, file.signed(), {}, 'HEAD')
    await get(rig, file.signed())
  }
  await eventually('descriptors are closed', () => count() <= before + 1)
  t.pass()
})
