/** What a look at a directory sees: files that are new or changed, and nothing by way of links, pipes or names for what is not finished. */
import { execFileSync } from 'node:child_process'
import { mkdir, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import t from 'tap'

import { changesIn, listTree, MAX_TREE_ENTRIES } from '../../src/worker/files/tree-task.ts'
import { valueOf } from '../../src/worker/files/task-outcome.ts'
import { tempRoot } from './files-fixture.ts'

async function directoryOf(t: Parameters<typeof tempRoot>[0], files: readonly string[]) {
  const directory = await tempRoot(t)
  for (const path of files) {
    // oxlint-disable-next-line no-await-in-loop -- a few
    await mkdir(join(directory, path, '..'), { recursive: true })
    // oxlint-disable-next-line no-await-in-loop -- a few
    await writeFile(join(directory, path), path)
  }
  return { directory, without: ['uploads'] }
}

function changed(order: Parameters<typeof listTree>[0], before: string): readonly string[] {
  return valueOf(changesIn({ order, before })).files.map(({ path }) => path)
}

t.test('files that are new, written to, renamed or replaced are seen, once each', async (t) => {
  const order = await directoryOf(t, ['old.txt', 'same.txt', 'sub/moved.txt', 'uploads/own.txt'])
  const at = (path: string) => join(order.directory, path)
  const { versions, bytes, isWhole } = valueOf(listTree(order))
  t.equal(bytes, 'old.txt'.length + 'same.txt'.length + 'sub/moved.txt'.length)
  t.equal(isWhole, true)
  t.same(changed(order, versions), [])
  await writeFile(at('old.txt'), 'old.tx!')
  await utimes(at('old.txt'), 1, 1)
  await rename(at('sub/moved.txt'), at('here.txt'))
  await writeFile(at('a\nb\u0000'.replace('\u0000', ' c')), 'odd')
  await writeFile(at('uploads/more.txt'), 'not looked at')
  t.same(changed(order, versions).toSorted(), ['a\nb c', 'here.txt', 'old.txt'])
  t.equal(changed(order, versions)[0], 'old.txt', 'oldest first')
  t.same(changed(order, valueOf(listTree(order)).versions), [])
})

t.test('what is no finished file of this directory is not seen', async (t) => {
  const order = await directoryOf(t, ['.hidden', 'a.part', 'b.crdownload', 'c.TMP', 'd~'])
  const elsewhere = await directoryOf(t, ['secret.txt'])
  await symlink(join(elsewhere.directory, 'secret.txt'), join(order.directory, 'link.txt'))
  await symlink(elsewhere.directory, join(order.directory, 'linked'))
  await symlink('.', join(order.directory, 'loop'))
  execFileSync('mkfifo', [join(order.directory, 'pipe.txt')])
  t.same(changed(order, ''), [])
  await rm(order.directory, { recursive: true })
  t.same(changed(order, ''), [], 'nor one that is gone')
})

t.test('a look ends at a number of entries and at a depth', async (t) => {
  const deep = Array.from({ length: 30 }, () => 'd').join('/')
  const order = await directoryOf(t, [`${deep}/lost.txt`, 'd/found.txt'])
  t.same(changed(order, ''), ['d/found.txt'])
  await Promise.all(
    Array.from({ length: MAX_TREE_ENTRIES }, (_, at) =>
      writeFile(join(order.directory, `${at}.txt`), ''),
    ),
  )
  t.equal(valueOf(listTree(order)).isWhole, false)
  t.equal(valueOf(changesIn({ order, before: '' })).isWhole, false)
})
