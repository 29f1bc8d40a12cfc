/** The pool's digests; its other jobs have tests of their own. */
import { createHash, randomBytes } from 'node:crypto'
import { open, symlink, writeFile } from 'node:fs/promises'
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
