/** The steps that a call takes on the disk: what they make, refuse and sync, and that one disturbs no other. */
import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import fs from 'node:fs'
import {
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { basename, dirname, join, relative } from 'node:path'

import t, { type Test } from 'tap'

import { FileLayout, UnsafePathError } from '../../src/shared/files/layout.ts'
import { mintArtifactId, mintSessionId } from '../../src/shared/ids.ts'
import type { FileRef } from '../../src/shared/state/records.ts'
import { copy } from '../../src/worker/files/copy-task.ts'
import { openDigestPool } from '../../src/worker/files/digest-pool.ts'
import type { ItemSteps } from '../../src/worker/files/item-steps.ts'
import {
  keepLarge,
  runSteps,
  type ItemStep,
  type StepKind,
} from '../../src/worker/files/item-task.ts'
import { tempRoot } from './files-fixture.ts'

interface Fixture {
  readonly items: ItemSteps
  readonly layout: FileLayout
  readonly ref: FileRef
  readonly outside: string
  /** Allocates an item and writes a file into it. */
  readonly put: (name: string, content: string | Uint8Array) => Promise<FileRef>
}

async function fixture(t: Test, atomicWrites = true): Promise<Fixture> {
  const base = await tempRoot(t)
  const pool = openDigestPool()
  t.teardown(() => pool.close())
  const outside = join(base, 'outside')
  await mkdir(outside)
  const layout = new FileLayout({ root: join(base, 'root'), atomicWrites })
  const sessionId = mintSessionId()
  const newRef = (): FileRef => ({
    serverId: 'srv',
    sessionId,
    kind: 'artifacts',
    id: mintArtifactId(),
  })
  const put = async (name: string, content: string | Uint8Array): Promise<FileRef> => {
    const ref = newRef()
    await writeFile(join(await pool.items.create(layout, ref), name), content)
    return ref
  }
  return { items: pool.items, layout, ref: newRef(), outside, put }
}

const digestOf = (content: string | Uint8Array): string =>
  createHash('sha256').update(content).digest('hex')

t.test('a file that a tool wrote is kept with its name, type, size and digest', async (t) => {
  const { items, layout, put } = await fixture(t)
  const cases: readonly (readonly [
    name: string,
    content: string,
    filename: string,
    type: string,
  ])[] = [
    ['notes.txt', 'hello', 'notes.txt', 'text/plain'],
    ['notes', 'hello', 'notes.txt', 'text/plain'],
    ['page', '%PDF-1.7', 'page.pdf', 'application/pdf'],
    ['empty.csv', '', 'empty.csv', 'text/csv'],
  ]
  for (const [name, content, filename, mimeType] of cases) {
    const ref = await put(name, content)
    const expected = { filename, mimeType, sizeBytes: content.length, sha256: digestOf(content) }
    t.same(await items.keep(layout, ref, name), expected, name)
    t.same(await readdir(layout.itemDir(ref)), [filename])
    await items.check(layout, ref, filename)
  }
})

t.test('a large file is kept like a small one', async (t) => {
  const { items, layout, put } = await fixture(t)
  for (const size of [256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 3_000_000]) {
    const content = randomBytes(size)
    content.write('%PDF-')
    const kept = await items.keep(layout, await put('scan', content), 'scan')
    t.same(kept, {
      filename: 'scan.pdf',
      mimeType: 'application/pdf',
      sizeBytes: size,
      sha256: digestOf(content),
    })
  }
})

t.test('without a file of the given name the youngest beside it is taken', async (t) => {
  const { items, layout, put, ref } = await fixture(t)
  const made = await put('log.txt', 'of another stem')
  const directory = layout.itemDir(made)
  await writeFile(join(directory, 'report.old.txt'), 'old')
  await utimes(join(directory, 'report.old.txt'), 1000, 1000)
  await utimes(join(directory, 'log.txt'), 2000, 2000)
  await writeFile(join(directory, 'report.md'), 'new')
  await writeFile(join(directory, '.report.lock'), 'hidden')
  await mkdir(join(directory, 'report'))
  t.match(await items.keep(layout, made, 'report'), { filename: 'report.md', sizeBytes: 3 })
  t.match(await items.keep(layout, made, 'missing.txt'), { filename: 'report.md' })
  const unsafe = await put('a\u202eb\\c.txt', 'x')
  t.match(await items.keep(layout, unsafe, 'out.txt'), { filename: 'c.txt' }, 'made safe')
  await items.create(layout, ref)
  t.equal(await items.keep(layout, ref, 'none.txt'), undefined)
  t.equal(await items.keep(layout, { ...ref, id: mintArtifactId() }, 'none.txt'), undefined)
})

t.test('what is no regular file in its place is refused', async (t) => {
  const { items, layout, ref, outside } = await fixture(t)
  const directory = await items.create(layout, ref)
  await writeFile(join(outside, 'secret.txt'), 'secret')
  await symlink(join(outside, 'secret.txt'), join(directory, 'link.txt'))
  execFileSync('mkfifo', [join(directory, 'fifo.txt')])
  await mkdir(join(directory, 'dir.txt'))
  for (const name of ['link.txt', 'fifo.txt']) {
    await t.rejects(items.keep(layout, ref, name), UnsafePathError, name)
    await t.rejects(items.check(layout, ref, name), UnsafePathError, name)
  }
  await t.rejects(items.check(layout, ref, 'dir.txt'), /is a directory/)
  await t.rejects(items.check(layout, ref, 'none.txt'), { code: 'ENOENT' })
  await t.rejects(items.check(layout, ref, '../link.txt'), UnsafePathError)
  t.equal(await readFile(join(outside, 'secret.txt'), 'utf8'), 'secret')
})

t.test('a link in place of any parent directory is refused', async (t) => {
  const { items, layout, put, outside } = await fixture(t)
  const ref = await put('a.txt', 'mine')
  const path = layout.itemPath(ref, 'a.txt')
  for (const directory of [dirname(path), dirname(dirname(path)), layout.sessionDir(ref)]) {
    const decoy = join(outside, basename(directory))
    const theirs = join(decoy, relative(directory, path))
    await mkdir(dirname(theirs), { recursive: true })
    await writeFile(theirs, 'theirs')
    await rename(directory, `${directory}.moved`)
    await symlink(decoy, directory)
    await t.rejects(items.check(layout, ref, 'a.txt'), UnsafePathError, basename(directory))
    await t.rejects(items.keep(layout, ref, 'a.txt'), UnsafePathError)
    await t.rejects(items.create(layout, ref), UnsafePathError)
    t.equal(await readFile(theirs, 'utf8'), 'theirs')
    await rm(directory, { force: true })
    await rename(`${directory}.moved`, directory)
  }
})

t.test('a root that is a link may be pointed elsewhere', async (t) => {
  const { layout, items, outside, ref } = await fixture(t)
  await mkdir(layout.root)
  const link = join(outside, 'link')
  await symlink(layout.root, link)
  const linked = new FileLayout({ root: link, atomicWrites: true })
  t.ok((await items.create(linked, ref)).startsWith(link))
  const elsewhere = join(outside, 'elsewhere')
  await mkdir(elsewhere)
  await rm(link)
  await symlink(elsewhere, link)
  await writeFile(join(await items.create(linked, ref), 'a.txt'), 'x')
  t.match(await items.keep(linked, ref, 'a.txt'), { filename: 'a.txt' })
  t.same(await readdir(elsewhere), ['sessions'])
})

t.test('a file from elsewhere is brought in whole under its name, or not at all', async (t) => {
  const { items, layout, ref, outside, put } = await fixture(t)
  const directory = await items.create(layout, ref)
  for (const size of [0, 1_000, 256 * 1024, 1_000_003]) {
    const content = randomBytes(size)
    const path = join(outside, 'a')
    await writeFile(path, content)
    const handle = await open(path)
    await handle.read(Buffer.alloc(10))
    const done = { ok: true, sha256: digestOf(content), sizeBytes: size }
    const to = { ref, filename: 'b' }
    t.same(await items.copy(layout, to, handle.fd, size), done, 'exactly the limit')
    t.same(await readFile(join(directory, 'b')), content)
    if (size > 0) {
      const tooLarge = { ok: false, reason: 'too_large' }
      t.same(await items.copy(layout, { ref, filename: 'c' }, handle.fd, size - 1), tooLarge)
    }
    t.same(await items.copy(layout, { ref, filename: 'd' }, content, null), done, 'bytes')
    t.same(await readFile(join(directory, 'd')), content)
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(10))
    t.same(buffer.subarray(0, bytesRead), content.subarray(10, 20), 'the position is left alone')
    await handle.close()
  }
  const handle = await open(outside)
  const notRegular = { ok: false, reason: 'not_regular' }
  t.same(await items.copy(layout, { ref, filename: 'c' }, handle.fd, null), notRegular)
  await handle.close()
  t.same((await readdir(directory)).toSorted(), ['b', 'd'], 'no temporary file is left')
  const nowhere = { ref: { ...ref, id: mintArtifactId() }, filename: 'c' }
  await t.rejects(items.copy(layout, nowhere, Buffer.from('x'), null), { code: 'ENOENT' })
  await t.rejects(
    items.copy(layout, { ref, filename: '../c' }, Buffer.from('x'), null),
    UnsafePathError,
  )
  const moved = await put('a.txt', 'x')
  await rename(layout.itemDir(moved), `${layout.itemDir(moved)}.moved`)
  await symlink(outside, layout.itemDir(moved))
  const through = { ref: moved, filename: 'c' }
  await t.rejects(items.copy(layout, through, Buffer.from('x'), null), UnsafePathError)
  t.same(await readdir(outside), ['a'], 'nothing is written through a link')
})

t.test('many steps at once are all done, and one that fails disturbs no other', async (t) => {
  const { items, layout, put } = await fixture(t)
  const outcomes = await Promise.all(
    Array.from({ length: 60 }, async (_, index) => {
      const ref = await put('a.txt', `content ${index}`)
      if (index % 5 === 0) await rm(layout.itemDir(ref), { recursive: true })
      if (index % 7 === 0) return items.check(layout, ref, 'none.txt').catch(String)
      return (await items.keep(layout, ref, 'a.txt'))?.sha256
    }),
  )
  for (const [index, outcome] of outcomes.entries()) {
    if (index % 7 === 0) t.match(outcome, /ENOENT/)
    else t.equal(outcome, index % 5 === 0 ? undefined : digestOf(`content ${index}`))
  }
})

t.test('closing waits for steps; later ones are refused', async (t) => {
  const { layout, ref } = await fixture(t)
  const pool = openDigestPool()
  const made = pool.items.create(layout, ref)
  // What was asked for in this turn leaves at its end.
  await new Promise((resolve) => setImmediate(resolve))
  await pool.close()
  t.equal(await made, layout.itemDir(ref))
  await t.rejects(pool.items.create(layout, ref), /closed/)
})

/** Paths that `work` syncs in this thread, in order, relative to `base`. The disk fails for the one that is called `failing`. */
async function syncedBy(base: string, work: () => unknown, failing?: string): Promise<string[]> {
  const { fsyncSync, fsync } = fs
  const synced: string[] = []
  const note = (fd: number): number =>
    synced.push(relative(base, fs.readlinkSync(`/proc/self/fd/${fd}`)))
  fs.fsyncSync = (fd) => {
    note(fd)
    fsyncSync(fd)
  }
  const fsyncNoted = (fd: number, done: fs.NoParamCallback): void => {
    note(fd)
    const isFailing = failing !== undefined && basename(synced.at(-1) ?? '') === failing
    fsync(fd, (error) =>
      done(isFailing ? Object.assign(new Error('failed'), { code: 'EIO' }) : error),
    )
  }
  fs.fsync = Object.assign(fsyncNoted, fsync)
  syncBuiltinESMExports()
  try {
    await work()
  } finally {
    fs.fsyncSync = fsyncSync
    fs.fsync = fsync
    syncBuiltinESMExports()
  }
  return synced
}

t.test('what is kept is durable: the file first, then its entry, then the item’s', async (t) => {
  const { layout, ref, put } = await fixture(t)
  const base = dirname(layout.root)
  const session = `root/sessions/srv/${ref.sessionId}`
  const step = (kind: StepKind, of: FileRef, name = '', atomicWrites = true): ItemStep => [
    kind,
    layout.root,
    atomicWrites,
    layout.itemDir(of),
    name,
  ]
  const run = (...steps: ItemStep[]) =>
    syncedBy(base, async () => {
      for (const outcome of await runSteps(steps)) t.equal(outcome.kind, 'done')
    })
  t.same(
    await run(step('create', ref)),
    [session, 'root/sessions/srv', 'root/sessions', 'root', ''],
    'the first of a session makes its parents durable, for others too',
  )
  const next = { ...ref, id: mintArtifactId() }
  t.same(await run(step('create', next)), [], 'an empty item need not survive')
  const made = await put('a.txt', 'x')
  const item = `${session}/artifacts/${made.id}`
  const expected = [`${item}/a.txt`, item, `${session}/artifacts`]
  t.same(await run(step('keep', made, 'a.txt')), expected)
  t.same(await run(step('check', made, 'a.txt')), [])
  const hasty = { ...ref, id: mintArtifactId() }
  t.same(await run(step('create', hasty, '', false)), [])
  t.same(await run(step('keep', made, 'a.txt', false)), [])
  const from = join(base, 'from.txt')
  await writeFile(from, 'from elsewhere')
  const source = fs.openSync(from, 'r')
  t.teardown(() => fs.closeSync(source))
  const copyOf = (atomicWrites: boolean) => ({
    source,
    root: layout.root,
    atomicWrites,
    directory: layout.itemDir(made),
    filename: 'c.txt',
    maxBytes: null,
  })
  const copied = await syncedBy(base, () => copy(copyOf(true)))
  t.match(copied[0], /\.part$/, 'before it has its name')
  t.same(copied.slice(1), expected.slice(1))
  t.same(await syncedBy(base, () => copy(copyOf(false))), [])
  const large = await put('b.bin', randomBytes(300_000))
  const synced = await syncedBy(base, () => keepLarge(step('keep', large, 'b.bin')))
  const largeItem = `${session}/artifacts/${large.id}`
  t.same(synced, [`${largeItem}/b.bin`, largeItem, `${session}/artifacts`])
  const both = [await put('d.txt', 'x'), await put('e.txt', 'y')] as const
  const together = await run(step('keep', both[0], 'd.txt'), step('keep', both[1], 'e.txt'))
  for (const [index, name] of ['d.txt', 'e.txt'].entries()) {
    const entry = `${session}/artifacts/${both[index]?.id}`
    t.ok(together.indexOf(`${entry}/${name}`) < together.indexOf(entry))
  }
  t.equal(together.filter((path) => path === `${session}/artifacts`).length, 1, 'shared')
  t.equal(together.length, 5)
  const steps = [step('keep', both[0], 'd.txt'), step('keep', both[1], 'e.txt')]
  const check = async (): Promise<void> => {
    const outcomes = await runSteps(steps)
    t.match(outcomes, [{ kind: 'failed', errno: 'EIO' }, { kind: 'done' }])
  }
  await syncedBy(base, check, 'd.txt')
})
