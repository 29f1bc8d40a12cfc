/** The pool's digests; its other jobs have tests of their own. */
import { createHash, randomBytes } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { open, symlink, writeFile } from 'node:fs/promises'
import { getPriority } from 'node:os'
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

/** How many threads of this process have each niceness. */
function niceness(): Map<number, number> {
  const counts = new Map<number, number>()
  for (const thread of readdirSync('/proc/self/task')) {
    const stat = readFileSync(`/proc/self/task/${thread}/stat`, 'utf8')
    // Its 19th field, counted from the name, the second, which may hold anything (proc_pid_stat(5)).
    const value = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16])
    counts.set(value, (counts.get(value) ?? 0) + 1)
  }
  return counts
}

t.test('what carries file bytes has a lower priority than calls and their steps', async (t) => {
  const root = await tempRoot(t)
  const pool = openDigestPool()
  t.teardown(() => pool.close())
  const own = getPriority()
  await pool.listTree({ directory: root, without: [] })
  t.same([...niceness().keys()], [own], 'steps of calls are as important as calls')
  await writeFile(join(root, 'a'), content)
  await pool.digestFile(join(root, 'a'))
  const counts = niceness()
  t.equal(counts.get(Math.max(own, 12)), own >= 12 ? counts.get(own) : 1, 'one thread is for bulk')
})
