/** The pool's other two jobs: digests and copies. */
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, open, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import t from 'tap'

import { openDigestPool } from '../../src/worker/files/digest-pool.ts'
import { tempRoot } from './files-fixture.ts'

const content = randomBytes(1_000_003)
const sha256 = createHash('sha256').update(content).digest('hex')

t.test('a file is hashed by path or by descriptor', async (t) => {
  const root = await tempRoot(t)
  const pool = openDigestPool()
  t.teardown(() => pool.close())
  const path = join(root, 'a')
  await writeFile(path, content)
  await symlink(path, join(root, 'link'))
  t.same(await pool.digestFile(path), { sha256, sizeBytes: content.byteLength })
  const handle = await open(path)
  await handle.read(Buffer.alloc(10))
  t.same(await pool.digestFile(handle.fd), { sha256, sizeBytes: content.byteLength })
  const { buffer } = await handle.read(Buffer.alloc(10))
  t.same(buffer, content.subarray(10, 20), 'the position of the descriptor is left alone')
  await handle.close()
  await t.rejects(pool.digestFile(join(root, 'none')), { code: 'ENOENT' })
  await t.rejects(pool.digestFile(join(root, 'link')), { code: 'ELOOP' })
  await t.rejects(pool.digestFile(root), /not a regular file/)
})

t.test('a copy is whole and synced under its name, or not there at all', async (t) => {
  const root = await tempRoot(t)
  const pool = openDigestPool()
  t.teardown(() => pool.close())
  const source = join(root, 'a')
  await writeFile(source, content)
  await symlink(source, join(root, 'link'))
  await mkdir(join(root, 'to'))
  const target = join(root, 'to', 'b')
  const done = { ok: true, sha256, sizeBytes: content.byteLength }
  t.same(await pool.copyFile(source, target, content.byteLength), done, 'exactly the limit')
  t.same(await readFile(target), content)
  const tooLarge = { ok: false, reason: 'too_large' }
  t.same(await pool.copyFile(source, join(root, 'to', 'c'), content.byteLength - 1), tooLarge)
  t.same(await pool.copyFile(root, join(root, 'to', 'c'), null), {
    ok: false,
    reason: 'not_regular',
  })
  await t.rejects(pool.copyFile(join(root, 'link'), join(root, 'to', 'c'), null), { code: 'ELOOP' })
  await t.rejects(pool.copyFile(source, join(root, 'nowhere', 'c'), null), { code: 'ENOENT' })
  const handle = await open(source)
  t.same(await pool.copyFile(handle.fd, join(root, 'to', 'd'), null), done)
  t.ok((await handle.stat()).isFile(), 'the descriptor stays open')
  await handle.close()
  t.same((await readdir(join(root, 'to'))).toSorted(), ['b', 'd'], 'no temporary file is left')
  t.equal((await stat(target)).size, content.byteLength)
})

t.test('many tasks at once are all done, and closing waits for them', async (t) => {
  const root = await tempRoot(t)
  const pool = openDigestPool()
  const path = join(root, 'a')
  await writeFile(path, content)
  const tasks = Array.from({ length: 40 }, () => pool.digestFile(path))
  const closing = pool.close()
  t.equal(pool.close(), closing, 'callers share one close')
  const digests = await Promise.all(tasks)
  t.ok(digests.every((digest) => digest.sha256 === sha256))
  await closing
  await t.rejects(pool.digestFile(path), 'nothing new is taken')
})
