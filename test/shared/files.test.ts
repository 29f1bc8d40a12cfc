/** Names, media types, and the file store on a real directory with hostile neighbours. */
/* oxlint-disable no-await-in-loop -- tests do one thing after another */
import { execFileSync } from 'node:child_process'
import { closeSync, readlinkSync, readSync } from 'node:fs'
import {
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
  type FileHandle,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join, relative } from 'node:path'

import t, { type Test } from 'tap'

import { FileStore } from '../../src/shared/files/file-store.ts'
import { isTempName, tempPathIn, UnsafePathError } from '../../src/shared/files/layout.ts'
import { extensionFor, mimeTypeOf, sanitizeFilename } from '../../src/shared/files/names.ts'
import { mintSessionId, mintUploadId } from '../../src/shared/ids.ts'
import type { FileRef } from '../../src/shared/state/records.ts'

const NAMES: readonly [raw: string, safe: string, why: string][] = [
  ['report.pdf', 'report.pdf', 'a plain name stays'],
  ['Übersicht – 2024 日本.pdf', 'Übersicht – 2024 日本.pdf', 'Unicode stays'],
  ['U\u0308.txt', 'Ü.txt', 'composed form'],
  ['../../etc/passwd', 'passwd', 'last component'],
  ['C:\\temp\\a.txt', 'a.txt', 'last component under backslashes'],
  ['a\0b\r\nc.txt', 'abc.txt', 'control characters go'],
  ['\u202Efdp.exe', 'fdp.exe', 'bidi overrides go'],
  ['a\u200Bb.txt', 'ab.txt', 'zero-width characters go'],
  ['a<b>:"c|?*.txt', 'a_b___c___.txt', 'characters that Windows reserves'],
  ['.env', '_env', 'never hidden'],
  ['...hidden', '_hidden', 'never hidden'],
  ['..', 'fallback', 'only dots'],
  ['.', 'fallback', 'only a dot'],
  ['', 'fallback', 'nothing'],
  [' \t ', 'fallback', 'blank'],
  ['dir/', 'fallback', 'no last component'],
  ['name. . ', 'name', 'trailing dots and spaces'],
  ['name\u3000.', 'name', 'a trailing blank of another kind before a dot'],
  ['a\n\u0308.txt', 'ä.txt', 'composed across what goes'],
  ['CON', '_CON', 'a device name'],
  ['nul.txt', '_nul.txt', 'a device name with an extension'],
  ['console.txt', 'console.txt', 'only begins like a device name'],
  ['\ud800.txt', '_txt', 'a lone surrogate goes'],
]

t.test('file names become safe path components', (t) => {
  for (const [raw, safe, why] of NAMES) t.equal(sanitizeFilename(raw, 'fallback'), safe, why)
  t.end()
})

t.test('long names are cut to 255 bytes on a code point, extension kept', (t) => {
  const cut = sanitizeFilename(`${'日本'.repeat(100)}.tar.gz`, 'x')
  t.ok(Buffer.byteLength(cut) <= 255)
  t.ok(Buffer.byteLength(cut) > 250, 'no more is cut than has to be')
  t.match(cut, /^(日本)+日?\.gz$/u)
  const emoji = sanitizeFilename(`${'😀'.repeat(90)}.png`, 'x')
  t.match(emoji, /^(?:😀)+\.png$/u, 'no half of a surrogate pair')
  const noExtension = sanitizeFilename(`a.${'b'.repeat(400)}`, 'x')
  t.equal(Buffer.byteLength(noExtension), 255)
  t.equal(sanitizeFilename(cut, 'x'), cut, 'a safe name stays as it is')
  t.end()
})

const bytes = (text: string) => Buffer.from(text, 'latin1')

t.test('media types come from magic, then extension, then text', (t) => {
  t.equal(mimeTypeOf('x.txt', bytes('%PDF-1.7')), 'application/pdf')
  t.equal(mimeTypeOf('x', bytes('\x89PNG\r\n\x1a\n...')), 'image/png')
  t.equal(mimeTypeOf('x', bytes('\xff\xd8\xff\xe0')), 'image/jpeg')
  t.equal(mimeTypeOf('x', bytes('GIF89a')), 'image/gif')
  t.equal(mimeTypeOf('x', bytes('RIFF1234WEBPVP8 ')), 'image/webp')
  t.equal(mimeTypeOf('x.wav', bytes('RIFF1234WAVE')), 'audio/wav')
  t.equal(mimeTypeOf('REPORT.CSV', bytes('a,b')), 'text/csv')
  t.equal(mimeTypeOf('notes', Buffer.from('häuser')), 'text/plain')
  t.equal(mimeTypeOf('notes', Buffer.from('häuser').subarray(0, 2)), 'text/plain', 'cut character')
  t.equal(mimeTypeOf('notes', bytes('\xe4\xff\xff')), 'application/octet-stream')
  t.equal(mimeTypeOf('notes', bytes('a\0b')), 'application/octet-stream')
  t.equal(mimeTypeOf('notes', Buffer.alloc(0)), 'application/octet-stream')
  t.equal(mimeTypeOf('notes'), 'application/octet-stream')
  t.equal(extensionFor('image/jpeg'), '.jpg')
  t.equal(extensionFor('text/plain; charset=utf-8'), '.txt')
  t.equal(extensionFor('application/x-unheard-of'), '')
  t.end()
})

interface Fixture {
  readonly files: FileStore
  readonly outside: string
  readonly ref: FileRef
}

async function fixture(t: Test): Promise<Fixture> {
  const base = await mkdtemp(join(tmpdir(), 'file-store-'))
  t.teardown(() => rm(base, { recursive: true, force: true }))
  const outside = join(base, 'outside')
  await mkdir(outside)
  await writeFile(join(outside, 'secret.txt'), 'secret')
  const files = new FileStore({ root: join(base, 'root'), atomicWrites: true })
  const ref = {
    serverId: 'srv',
    sessionId: mintSessionId(),
    kind: 'uploads',
    id: mintUploadId(),
  } as const
  return { files, outside, ref }
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = []
  for await (const item of items) collected.push(item)
  return collected
}

async function put(files: FileStore, ref: FileRef, name: string, text: string): Promise<string> {
  await files.createItemDir(ref)
  const path = files.itemPath(ref, name)
  const temp = tempPathIn(dirname(path))
  const handle = await files.createFile(temp)
  await handle.writeFile(text)
  await handle.close()
  await files.publish(temp, path)
  return path
}

t.test('a published file is there whole under its name alone', async (t) => {
  const { files, ref } = await fixture(t)
  const path = await put(files, ref, 'ä.txt', 'hello')
  const expected = join(files.root, 'sessions', 'srv', ref.sessionId, 'uploads', ref.id, 'ä.txt')
  t.equal(path, expected)
  t.same(await readdir(dirname(path)), ['ä.txt'])
  const item = await files.openItem(ref, 'ä.txt')
  t.equal(await item.handle.readFile('utf8'), 'hello')
  t.equal(item.sizeBytes, 5)
  t.ok(Math.abs(item.mtimeMs - Date.now()) < 60_000)
  await item.handle.close()
})

/** Directories that `work` syncs, relative to `base`. */
async function syncedBy(base: string, work: () => Promise<unknown>): Promise<string[]> {
  const handle = await open(base)
  // The prototype of a handle has the methods of handles.
  const prototype = Object.getPrototypeOf(handle) as FileHandle
  await handle.close()
  const synced: string[] = []
  const original = Reflect.get(prototype, 'sync')
  prototype.sync = function (this: FileHandle) {
    synced.push(relative(base, readlinkSync(`/proc/self/fd/${this.fd}`)))
    return original.call(this)
  }
  try {
    await work()
  } finally {
    prototype.sync = original
  }
  return synced.toSorted()
}

t.test('new directories are synced into their parents, each once', async (t) => {
  const { files, ref } = await fixture(t)
  const base = dirname(files.root)
  const session = `root/sessions/srv/${ref.sessionId}`
  const first = await syncedBy(base, () => files.createItemDir(ref))
  t.same(first, ['', 'root', 'root/sessions', 'root/sessions/srv', session, `${session}/uploads`])
  const second = { ...ref, id: mintUploadId() }
  const next = await syncedBy(base, () => files.createItemDir(second))
  t.same(next, [`${session}/uploads`])
  t.same(await syncedBy(base, () => files.createItemDir(second)), [], 'nothing new')
  const hasty = new FileStore({ root: files.root, atomicWrites: false })
  const loose = { ...ref, id: mintUploadId() }
  t.same(await syncedBy(base, () => hasty.createItemDir(loose)), [])
  const linked = `${files.root}-link`
  await symlink(files.root, linked)
  const throughLink = new FileStore({ root: linked, atomicWrites: true })
  await rm(join(files.root, 'sessions'), { recursive: true })
  t.ok((await syncedBy(base, () => throughLink.createItemDir(ref))).includes('root'))
})

t.test('a raw descriptor reads the file and is the callers to close', async (t) => {
  const { files, ref } = await fixture(t)
  await put(files, ref, 'a.txt', 'hello')
  const { fd, sizeBytes } = await files.openItemFd(ref, 'a.txt')
  t.equal(sizeBytes, 5)
  const buffer = Buffer.alloc(5)
  t.equal(readSync(fd, buffer, 0, 5, 0), 5)
  closeSync(fd)
  t.equal(buffer.toString(), 'hello')
  await t.rejects(files.openItemFd(ref, 'b.txt'), { code: 'ENOENT' })
})

t.test('a root that is itself a link works', async (t) => {
  const { files, ref } = await fixture(t)
  const linked = `${files.root}-link`
  await mkdir(files.root)
  await symlink(files.root, linked)
  const store = new FileStore({ root: linked, atomicWrites: false })
  const path = await put(store, ref, 'a.txt', 'x')
  t.ok(path.startsWith(linked), 'paths are told as the operator configured them')
  await (await store.openItem(ref, 'a.txt')).handle.close()
})

t.test('links and other things in place of a file are refused', async (t) => {
  const { files, outside, ref } = await fixture(t)
  const directory = await files.createItemDir(ref)
  await symlink(join(outside, 'secret.txt'), join(directory, 'link.txt'))
  await mkdir(join(directory, 'dir.txt'))
  execFileSync('mkfifo', [join(directory, 'fifo.txt')])
  await t.rejects(files.openItem(ref, 'link.txt'), UnsafePathError)
  await t.rejects(files.openItem(ref, 'dir.txt'), UnsafePathError)
  await t.rejects(files.openItem(ref, 'fifo.txt'), UnsafePathError, 'does not wait for a writer')
  await t.rejects(files.openItemFd(ref, 'link.txt'), UnsafePathError)
  await t.rejects(files.openItem(ref, '../link.txt'), UnsafePathError)
  await t.rejects(files.openItem(ref, '..'), UnsafePathError)
  await t.rejects(files.createFile(join(directory, 'link.txt')), { code: 'EEXIST' })
})

t.test(
  'a link in place of any parent directory is refused, for reading and for writing',
  async (t) => {
    const { files, outside, ref } = await fixture(t)
    const path = await put(files, ref, 'secret.txt', 'mine')
    const swapped = [dirname(path), dirname(dirname(path)), files.sessionDir(ref)]
    for (const directory of swapped) {
      const decoy = join(outside, basename(directory))
      const theirs = join(decoy, relative(directory, path))
      await mkdir(dirname(theirs), { recursive: true })
      await writeFile(theirs, 'theirs')
      await rename(directory, `${directory}.moved`)
      await symlink(decoy, directory)
      await t.rejects(files.openItem(ref, 'secret.txt'), UnsafePathError, basename(directory))
      await t.rejects(files.createItemDir(ref), UnsafePathError)
      await t.rejects(files.createFile(files.itemPath(ref, 'new.txt')), UnsafePathError)
      await files.removeItem(ref).catch(() => undefined)
      t.equal(await readFile(theirs, 'utf8'), 'theirs')
      await rm(directory, { force: true })
      await rename(`${directory}.moved`, directory)
    }
  },
)

t.test('removing an item takes empty parents along and nothing else', async (t) => {
  const { files, outside, ref } = await fixture(t)
  const other = { ...ref, id: mintUploadId() }
  const path = await put(files, ref, 'a.txt', 'x')
  await put(files, other, 'b.txt', 'y')
  await symlink(outside, join(dirname(path), 'link'))
  await files.removeItem(ref)
  await t.rejects(stat(dirname(path)), { code: 'ENOENT' })
  t.same(await readdir(outside), ['secret.txt'], 'a link is removed, not what it points to')
  await files.removeItem(other)
  t.same(await readdir(join(files.root, 'sessions')), [])
  await files.removeItem(other)
  await files.removeSession(ref)
})

t.test('removing a session takes both kinds of items', async (t) => {
  const { files, ref } = await fixture(t)
  const neighbour = { ...ref, sessionId: mintSessionId() }
  await put(files, ref, 'a.txt', 'x')
  await put(files, { ...ref, kind: 'artifacts' }, 'b.txt', 'x')
  await put(files, neighbour, 'c.txt', 'x')
  await files.removeSession(ref)
  t.same(await readdir(join(files.root, 'sessions', 'srv')), [neighbour.sessionId])
})

t.test('a directory that an upstream was told of outlives the last file in it', async (t) => {
  const { files, ref } = await fixture(t)
  const rooted = new FileStore({
    root: files.root,
    atomicWrites: false,
    rootedServers: new Set(['srv']),
  })
  await put(rooted, ref, 'a.txt', 'hello')
  await rooted.removeItem(ref)
  t.same(await readdir(rooted.sessionDir(ref)), [], 'it is empty, and there')
  await rooted.removeSession(ref)
  t.same(await readdir(join(files.root, 'sessions')), [], 'and goes with the session')
  await mkdir(join(files.root, 'sessions', 'srv'), { recursive: true })
  await symlink('/tmp', rooted.sessionDir(ref))
  await t.rejects(rooted.createSessionDir(ref), UnsafePathError, 'a link in its place is refused')
})

t.test('sessions and items are found with what the sweeper needs to know', async (t) => {
  const { files, outside, ref } = await fixture(t)
  const path = await put(files, ref, 'a.txt', 'hello')
  const temp = tempPathIn(dirname(path))
  await writeFile(temp, 'x')
  await utimes(path, 1000, 1000)
  await symlink(join(outside, 'secret.txt'), join(dirname(path), 'link'))
  await mkdir(join(files.root, 'sessions', 'srv', 'not-a-session-id'))
  await symlink(outside, join(files.root, 'sessions', 'linked'))
  await writeFile(join(files.root, 'sessions', 'srv', 'stray'), '')
  const sessions = await collect(files.listSessions())
  t.same(sessions, [{ serverId: 'srv', sessionId: ref.sessionId }])
  const [item, ...others] = await collect(files.listItems(ref))
  t.same(others, [])
  t.same(item?.ref, ref)
  t.same(
    item?.files.map((file) => file.name),
    [basename(temp), 'a.txt'],
    'no links',
  )
  t.equal(item?.files[1]?.mtimeMs, 1_000_000)
  t.ok(Date.now() - (item?.newestMtimeMs ?? 0) < 60_000)
  t.ok(isTempName(basename(temp)))
  t.notOk(isTempName('.download.part'))
  await files.removeTemp(ref, 'a.txt')
  await files.removeTemp(ref, basename(temp))
  t.same((await readdir(dirname(path))).toSorted(), ['a.txt', 'link'])
})

t.test('identifiers that are no path component never become a path', async (t) => {
  const { files, ref } = await fixture(t)
  for (const id of ['..', '.', '', 'a/b', 'a\\b', 'a\0']) {
    t.throws(() => files.itemDir({ ...ref, id }), UnsafePathError)
    t.throws(() => files.sessionDir({ ...ref, serverId: id }), UnsafePathError)
  }
})
