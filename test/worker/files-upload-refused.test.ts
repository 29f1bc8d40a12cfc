/** Uploads that are refused, given up or fail: what is answered, and that nothing is left behind. */
/* oxlint-disable no-await-in-loop -- tests do one thing after another */
import { once } from 'node:events'
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { dirname, join } from 'node:path'

import t from 'tap'

import { StoreUnavailableError } from '../../src/shared/errors.ts'
import { mintSessionId } from '../../src/shared/ids.ts'
import { eventually } from '../support/eventually.ts'
import { openTestStore, sessionRecord, startRig, tempRoot, tree } from './files-fixture.ts'
import {
  assertUntouched,
  chunk,
  CHUNKED,
  dial,
  filePart,
  form,
  part,
  raw,
  send,
  sha256,
} from './files-upload-client.ts'
import { sweptBy } from '../contract/store-fixtures.ts'

t.test('a digest that does not fit fails the whole batch', async (t) => {
  const rig = await startRig(t)
  const target = rig.uploadTarget()
  const files = ['1', '2', '3'].map((text) => ['file', new File([text], `${text}.txt`)] as const)
  const cases: readonly [status: number, digests: readonly string[], code: string][] = [
    [422, [sha256('1'), sha256('x'), sha256('3')], 'ADAPTER_UPLOAD_DIGEST_MISMATCH'],
    [400, [sha256('1'), sha256('2')], 'ADAPTER_UPLOAD_MALFORMED'],
    [400, [sha256('1'), sha256('2'), 'abc'], 'ADAPTER_UPLOAD_MALFORMED'],
    [400, [sha256('1'), sha256('2'), '0'.repeat(1000)], 'ADAPTER_UPLOAD_MALFORMED'],
  ]
  for (const [status, digests, code] of cases) {
    const fields = digests.map((digest) => ['sha256', digest] as const)
    const answer = await send(rig, target, { method: 'POST', body: form(...files, ...fields) })
    t.equal(answer.status, status)
    t.equal(answer.json['error'], code)
  }
  await assertUntouched(t, rig, target)
})

t.test('one file over the limit fails all of its batch', async (t) => {
  const rig = await startRig(t, { uploads: { maxFileBytes: 1000 } })
  const target = rig.uploadTarget()
  const sizes = [1000, 1001, 10]
  const parts = sizes.map((size) => ['file', new File(['x'.repeat(size)], `${size}.txt`)] as const)
  const answer = await send(rig, target, { method: 'POST', body: form(...parts) })
  t.equal(answer.status, 413)
  t.equal(answer.json['error'], 'ADAPTER_UPLOAD_TOO_LARGE')
  await assertUntouched(t, rig, target)
})

t.test('forms that can not be understood are refused and leave nothing', async (t) => {
  const rig = await startRig(t)
  const target = rig.uploadTarget()
  const field = part('Content-Disposition: form-data; name="sha256"', sha256('x'))
  const cases: readonly [why: string, init: RequestInit][] = [
    ['no boundary', { ...raw('x'), headers: { 'content-type': 'multipart/form-data' } }],
    ['another boundary', raw(`${filePart('a.txt')}--B--`, 'C')],
    ['no final boundary', raw(filePart('a.txt', 'x'.repeat(300_000)))],
    ['cut in a part header', raw(`${filePart('a.txt')}--B\r\nContent-Dis`)],
    ['empty body', raw('')],
    ['only the final boundary', raw('--B--\r\n')],
    ['no file', raw(`${field}--B--`)],
    ['a file under another name', raw(`${filePart('a.txt').replace('"file"', '"data"')}--B--`)],
    ['no disposition', raw(`${part('Content-Type: text/plain')}--B--`)],
    ['too many files', raw(`${filePart('a.txt').repeat(257)}--B--`)],
    ['too many fields', raw(`${field.repeat(513)}${filePart('a.txt')}--B--`)],
    ['an endless preamble', raw(`${'x'.repeat(6_000_000)}\r\n${filePart('a.txt')}--B--`)],
  ]
  for (const [why, init] of cases) {
    const answer = await send(rig, target, init)
    t.equal(answer.status, 400, why)
    t.equal(answer.json['error'], 'ADAPTER_UPLOAD_MALFORMED', why)
  }
  for (const headers of [
    { 'content-type': 'application/json' },
    { 'content-type': 'application/x-www-form-urlencoded' },
    { 'content-type': 'multipart/form-data; boundary=B', 'content-encoding': 'gzip' },
  ]) {
    const answer = await send(rig, target, { ...raw('x'), headers })
    t.equal(answer.status, 415)
  }
  await assertUntouched(t, rig, target)
})

t.test('a client that leaves in the middle leaves nothing behind', async (t) => {
  const rig = await startRig(t)
  const target = rig.uploadTarget()
  const socket = await dial(rig, target, CHUNKED)
  const start = filePart('a.txt', 'x'.repeat(500_000)).slice(0, -2)
  socket.write(chunk(start))
  await eventually('the file is begun', async () => (await tree(rig.files.root)).length === 1)
  t.match((await tree(rig.files.root))[0], /\/\.[\w-]{16}\.part$/, 'under a temporary name')
  await eventually(
    'its bytes are reserved',
    async () => (await rig.store.inventory()).reservedBytes >= 400_000,
  )
  t.same(rig.uploads.activeSessions(), [{ serverId: 'srv', sessionId: rig.key.sessionId }])
  socket.destroy()
  await eventually('the upload is given up', () => rig.uploads.activeSessions().length === 0)
  t.same(rig.outcomes, [], 'that is no failure of ours')
  await assertUntouched(t, rig, target)
})

t.test('slow uploads do not hold up others', async (t) => {
  const rig = await startRig(t)
  const stalled = await Promise.all(
    Array.from({ length: 30 }, () => dial(rig, rig.uploadTarget(), CHUNKED)),
  )
  for (const socket of stalled) socket.write(chunk(filePart('slow.txt', 'begun').slice(0, -2)))
  await eventually('all have begun', async () => (await tree(rig.files.root)).length === 30)
  const quick = await send(rig, rig.uploadTarget(), { method: 'PUT', body: 'quick' })
  t.equal(quick.status, 200)
  const answers = stalled.map((socket) => once(socket, 'data'))
  for (const socket of stalled) socket.write(`${chunk(' and ended\r\n--B--\r\n')}0\r\n\r\n`)
  for (const [data] of await Promise.all(answers)) {
    t.match(String(data), /^HTTP\/1.1 200 /)
    t.match(String(data), sha256('begun and ended'))
  }
  for (const socket of stalled) socket.destroy()
})

t.test('a client that falls silent, or takes forever, is given up', async (t) => {
  for (const [services, trickleMs] of [
    [{ idleTimeoutMs: 60 }, 100_000],
    [{ maxDurationMs: 60 }, 5],
  ] as const) {
    const rig = await startRig(t, { services })
    const target = rig.uploadTarget()
    const socket = await dial(rig, target, CHUNKED)
    socket.write(chunk(filePart('a.txt', 'x').slice(0, -2)))
    const trickle = setInterval(() => socket.write(chunk('x')), trickleMs)
    const [data] = await once(socket, 'data')
    clearInterval(trickle)
    socket.destroy()
    t.match(String(data), /^HTTP\/1.1 400 /)
    t.match(String(data), 'ADAPTER_UPLOAD_INCOMPLETE')
    await assertUntouched(t, rig, target)
  }
})

t.test('an endless body is answered as soon as it is too large', async (t) => {
  const rig = await startRig(t, { uploads: { maxFileBytes: 1_000_000 } })
  const target = rig.uploadTarget()
  const socket = await dial(rig, target, CHUNKED)
  const answered: string[] = []
  socket.on('data', (data: Buffer) => answered.push(data.toString()))
  socket.write(chunk(filePart('a.txt', 'x').slice(0, -2)))
  const piece = chunk('x'.repeat(65_536))
  let sent = 0
  while (answered.length === 0 && sent < 50_000_000) {
    if (!socket.write(piece)) await Promise.race([once(socket, 'drain'), once(socket, 'data')])
    sent += piece.length
  }
  t.match(answered[0], /^HTTP\/1.1 413 /)
  t.ok(sent < 20_000_000, `answered after ${sent} bytes`)
  socket.destroy()
  await assertUntouched(t, rig, target)
})

t.test('a body that is too large by its own account is not even read', async (t) => {
  const rig = await startRig(t, {
    uploads: { maxFileBytes: 1000 },
    policy: { maxSessionBytes: 5_000_000 },
  })
  const cases: readonly [method: string, length: number, status: number][] = [
    ['PUT', 1001, 413],
    ['POST', 999_999_999, 413],
    ['POST', 6_000_000, 507],
  ]
  for (const [method, length, status] of cases) {
    const headers = { 'content-type': 'multipart/form-data; boundary=B', 'content-length': length }
    const request = httpRequest(rig.origin + rig.uploadTarget(), { method, headers })
    request.on('error', () => undefined)
    request.flushHeaders()
    const [response] = await once(request, 'response')
    t.equal(response.statusCode, status, `${method} of ${length} bytes`)
    request.destroy()
  }
  t.same(await tree(rig.files.root), [])
})

t.test('of two uploads through one URL at once, one is kept', async (t) => {
  const rig = await startRig(t)
  const target = rig.uploadTarget()
  const first = await dial(rig, target, CHUNKED)
  const second = await dial(rig, target, CHUNKED)
  for (const socket of [first, second]) socket.write(chunk(filePart('a.txt', 'x').slice(0, -2)))
  await eventually('both have begun', async () => (await tree(rig.files.root)).length === 2)
  const answers = [first, second].map((socket) => once(socket, 'data'))
  for (const socket of [first, second]) socket.write(`${chunk('\r\n--B--\r\n')}0\r\n\r\n`)
  const statuses = (await Promise.all(answers)).map(([data]) => String(data).slice(9, 12))
  t.same(statuses.toSorted(), ['200', '410'])
  t.equal((await tree(rig.files.root)).length, 1)
  first.destroy()
  second.destroy()
})

t.test('who may upload is decided before the body is read', async (t) => {
  const rig = await startRig(t)
  const expect = async (
    status: number,
    code: string,
    target: string,
    init: RequestInit = { method: 'PUT', body: 'x' },
  ) => {
    const answer = await send(rig, target, init)
    t.equal(answer.status, status, code)
    t.equal(answer.json['error'], code)
    return answer
  }
  const target = rig.uploadTarget()
  await expect(403, 'ADAPTER_UPLOAD_TICKET_INVALID', '/upload/srv')
  await expect(
    403,
    'ADAPTER_UPLOAD_TICKET_INVALID',
    `${target.slice(0, -1)}${target.endsWith('0') ? '1' : '0'}`,
  )
  await expect(403, 'ADAPTER_UPLOAD_TICKET_INVALID', `${target}&mcp_upload_exp=9`)
  await expect(403, 'ADAPTER_UPLOAD_TICKET_EXPIRED', rig.uploadTarget({ expiresInSeconds: -1 }))
  await expect(404, 'ADAPTER_ROUTE_UNKNOWN', target.replace('srv', 'other'))
  const unknown = { serverId: 'srv', sessionId: mintSessionId() }
  await expect(404, 'ADAPTER_SESSION_UNKNOWN', rig.uploadTarget({ key: unknown }))
  const refused = await expect(405, 'ADAPTER_METHOD_NOT_ALLOWED', target, { method: 'DELETE' })
  t.equal(refused.headers.get('allow'), 'GET, POST, PUT')
  t.same(await tree(rig.files.root), [])
  t.equal(rig.outcomes.length, 7, 'each refusal is reported')
  const disabled = await startRig(t, { uploads: { enabled: false } })
  const answer = await send(disabled, disabled.uploadTarget(), { method: 'PUT', body: 'x' })
  t.equal(answer.json['error'], 'ADAPTER_UPLOADS_DISABLED')
})

t.test('an upload wakes a sleeping session, unless there is no place for it', async (t) => {
  let nowMs = Date.now()
  const store = openTestStore(t, { idleTtlMs: 1000, maxActiveSessions: 1 }, () => nowMs)
  const rig = await startRig(t, { wrapStore: () => store })
  const [sleeping, other] = [sessionRecord('srv'), sessionRecord('srv')]
  await store.openSession(sleeping)
  nowMs += 5000
  await sweptBy(store, 10, [])
  t.equal((await store.readSession(sleeping))?.state, 'tombstoned')
  await store.openSession(other)
  const target = rig.uploadTarget({ key: sleeping })
  t.equal((await send(rig, target, { method: 'PUT', body: 'x' })).status, 429)
  await store.closeSession(other)
  t.equal((await send(rig, target)).status, 200, 'looking at the form wakes nothing')
  t.equal((await store.readSession(sleeping))?.state, 'tombstoned')
  t.equal((await send(rig, target, { method: 'PUT', body: 'x' })).status, 200)
  t.equal((await store.readSession(sleeping))?.state, 'active')
})

t.test('a session that ends during an upload takes it along', async (t) => {
  const rig = await startRig(t)
  const socket = await dial(rig, rig.uploadTarget(), CHUNKED)
  socket.write(chunk(filePart('a.txt', 'x').slice(0, -2)))
  await eventually('the file is begun', async () => (await tree(rig.files.root)).length === 1)
  await rig.store.closeSession(rig.key)
  const answer = once(socket, 'data')
  socket.write(`${chunk('\r\n--B--\r\n')}0\r\n\r\n`)
  t.match(String((await answer)[0]), /^HTTP\/1.1 404 /)
  t.same(await tree(rig.files.root), [])
  socket.destroy()
})

t.test('failing storage and failing state are told apart, and pass', async (t) => {
  const base = await tempRoot(t)
  const root = join(base, 'root')
  await writeFile(root, 'a file where the root should be')
  let isDown = false
  const rig = await startRig(t, {
    root,
    wrapStore: (store) =>
      new Proxy(store, {
        get(target, name) {
          if (isDown) return () => Promise.reject(new StoreUnavailableError('down'))
          const value: unknown = Reflect.get(target, name)
          return typeof value === 'function' ? value.bind(target) : value
        },
      }),
  })
  const target = rig.uploadTarget()
  const failed = await send(rig, target, { method: 'PUT', body: 'x' })
  t.equal(failed.status, 500)
  t.equal(failed.json['error'], 'ADAPTER_STORAGE_FAILED')
  t.notMatch(failed.text, base, 'no path is told')
  isDown = true
  const unavailable = await send(rig, target, { method: 'PUT', body: 'x' })
  t.equal(unavailable.status, 503)
  t.equal(unavailable.json['error'], 'ADAPTER_STATE_UNAVAILABLE')
  isDown = false
  t.equal((await rig.store.inventory()).reservedBytes, 0)
})

t.test('a session directory that was replaced by a link is never written through', async (t) => {
  const rig = await startRig(t)
  const outside = await tempRoot(t)
  await mkdir(dirname(rig.files.sessionDir(rig.key)), { recursive: true })
  await symlink(outside, rig.files.sessionDir(rig.key))
  const answer = await send(rig, rig.uploadTarget(), { method: 'PUT', body: 'x' })
  t.equal(answer.status, 500)
  t.same(await tree(outside), [])
})
