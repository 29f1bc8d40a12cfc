/**
 * What the pool's threads run for the files of calls. Each step is all that one moment of a call asks of the disk, done in place but for syncs: a
 * change of threads costs more than most of these system calls. Several steps that wait at the same time come as one task.
 */
import { createHash } from 'node:crypto'
import { closeSync, readdirSync, readSync, renameSync, statSync } from 'node:fs'
import { extname, join } from 'node:path'

import {
  mimeTypeOf,
  sanitizeFilename,
  SNIFF_BYTES,
  withMimeExtension,
} from '../../shared/files/names.ts'
import { SyncFileStore, type CheckedFile } from '../../shared/files/sync-file-store.ts'
import { ItemEntries, syncFile } from './durable.ts'
import { pump, type FileDigest } from './pump.ts'
import { settle, settleSync, type TaskOutcome } from './task-outcome.ts'

/**
 * What is done with an item. `create`: makes its directory. `check`: fails when the file is not there, regular and in its place. `keep`: keeps what a
 * tool wrote into the directory under the name, or under one of its own.
 */
export type StepKind = 'create' | 'check' | 'keep'

/** One step. It crosses threads, and a flat one does so at half the cost of one with fields. Paths are those of the layout. */
export type ItemStep = readonly [
  kind: StepKind,
  root: string,
  atomicWrites: boolean,
  directory: string,
  filename: string,
]

/** A file that is where it will stay. */
export interface KeptFile extends FileDigest {
  readonly filename: string
  readonly mimeType: string
}

/** What a step comes to, by its kind. `large` files are for `keepLarge`, which does not hold up the thread. */
export type StepValue = null | KeptFile | 'large'

/** Files up to this size are hashed in place: it takes less than a millisecond, the disk's share aside. */
const SMALL_BYTES = 256 * 1024

const buffer = Buffer.allocUnsafeSlow(SMALL_BYTES)
const stores = new Map<string, SyncFileStore>()

/** Runs steps in order; one that fails disturbs no other. */
export async function runSteps(
  steps: readonly ItemStep[],
): Promise<readonly TaskOutcome<StepValue>[]> {
  const done = steps.map((step) => settleSync(() => runStep(step)))
  // Only now: what they have in common is synced once, after all of them changed it.
  const entries = new ItemEntries()
  return Promise.all(done.map((outcome) => settleDone(outcome, entries)))
}

/** Does a step of kind `keep` whatever the file's size. Null when there is none. */
export function keepLarge(step: ItemStep): Promise<TaskOutcome<KeptFile | null>> {
  const [, , , directory, filename] = step
  return settle(keepAny(storeOf(step), directory, filename))
}

/** A value that holds only once a file and its entries are durable. The descriptor is closed then. */
interface Unsynced {
  readonly kept: KeptFile
  readonly fd: number
  readonly directory: string
}

function runStep(step: ItemStep): StepValue | Unsynced {
  const [kind, , , directory, filename] = step
  const files = storeOf(step)
  switch (kind) {
    case 'create':
      files.createItem(directory)
      return null
    case 'check': {
      const path = join(directory, filename)
      const file = files.openFile(path)
      if (file === undefined) throw new Error(`${path} is a directory`)
      closeSync(file.fd)
      return null
    }
    case 'keep':
      return keepSmall(files, directory, filename)
  }
}

async function settleDone(
  outcome: TaskOutcome<StepValue | Unsynced>,
  entries: ItemEntries,
): Promise<TaskOutcome<StepValue>> {
  if (outcome.kind !== 'done') return outcome
  const { value } = outcome
  if (value === null || value === 'large' || !('kept' in value)) return { kind: 'done', value }
  return settle(synced(value, entries))
}

async function synced({ kept, fd, directory }: Unsynced, entries: ItemEntries): Promise<KeptFile> {
  try {
    await syncFile(fd)
  } finally {
    closeSync(fd)
  }
  await entries.sync(directory)
  return kept
}

function storeOf([, root, atomicWrites]: ItemStep): SyncFileStore {
  const name = atomicWrites ? root : `${root} `
  let store = stores.get(name)
  if (store === undefined) {
    store = new SyncFileStore({ root, atomicWrites })
    stores.set(name, store)
  }
  return store
}

function keepSmall(
  files: SyncFileStore,
  directory: string,
  filename: string,
): StepValue | Unsynced {
  const found = openFound(files, directory, filename)
  if (found === undefined) return null
  const { fd, stats } = found.file
  let isUnsynced = false
  try {
    const bytes = stats.size > SMALL_BYTES ? undefined : readSmall(fd)
    if (bytes === undefined) return 'large'
    const named = giveName(directory, found, filename, bytes)
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    const kept = { ...named, sha256, sizeBytes: bytes.byteLength }
    if (!files.atomicWrites) return kept
    isUnsynced = true
    return { kept, fd, directory }
  } finally {
    if (!isUnsynced) closeSync(fd)
  }
}

async function keepAny(
  files: SyncFileStore,
  directory: string,
  filename: string,
): Promise<KeptFile | null> {
  const found = openFound(files, directory, filename)
  if (found === undefined) return null
  const { fd } = found.file
  try {
    const head = buffer.subarray(0, readSync(fd, buffer, 0, SNIFF_BYTES, 0))
    const named = giveName(directory, found, filename, head)
    const digest = await pump(fd, null, () => Promise.resolve())
    if (files.atomicWrites) {
      await syncFile(fd)
      await new ItemEntries().sync(directory)
    }
    return { ...named, ...digest }
  } finally {
    closeSync(fd)
  }
}

interface FoundFile {
  readonly name: string
  readonly file: CheckedFile
}

/** The allocated name when something is there, else the youngest file beside it: some tools append an extension of their own. */
function openFound(
  files: SyncFileStore,
  directory: string,
  filename: string,
): FoundFile | undefined {
  const own = openOrUndefined(files, join(directory, filename))
  if (own !== undefined) return { name: filename, file: own }
  const name = nameBeside(directory, filename)
  const file = name === undefined ? undefined : openOrUndefined(files, join(directory, name))
  return name === undefined || file === undefined ? undefined : { name, file }
}

function openOrUndefined(files: SyncFileStore, path: string): CheckedFile | undefined {
  try {
    return files.openFile(path)
  } catch (error) {
    return ignoreMissing(error)
  }
}

function nameBeside(directory: string, filename: string): string | undefined {
  const entries = listed(directory)
  const stem = filename.slice(0, filename.length - extname(filename).length)
  const found = entries
    .filter((entry) => entry.isFile() && !entry.name.startsWith('.'))
    .map(({ name }) => ({
      name,
      sameStem: name.startsWith(stem),
      mtimeMs: statSync(join(directory, name), { throwIfNoEntry: false })?.mtimeMs ?? 0,
    }))
  found.sort((a, b) => Number(b.sameStem) - Number(a.sameStem) || b.mtimeMs - a.mtimeMs)
  return found[0]?.name
}

function listed(directory: string) {
  try {
    return readdirSync(directory, { withFileTypes: true })
  } catch (error) {
    return ignoreMissing(error) ?? []
  }
}

/** The whole file; undefined when it grew too large meanwhile. The bytes are good until the next step. */
function readSmall(fd: number): Buffer | undefined {
  let size = 0
  while (size < SMALL_BYTES) {
    const read = readSync(fd, buffer, size, SMALL_BYTES - size, size)
    if (read === 0) return buffer.subarray(0, size)
    size += read
  }
  return undefined
}

/** Renames the file to a safe name with an extension, and tells what it is. */
function giveName(
  directory: string,
  { name }: FoundFile,
  allocated: string,
  head: Uint8Array,
): { readonly filename: string; readonly mimeType: string } {
  const mimeType = mimeTypeOf(name, head.subarray(0, SNIFF_BYTES))
  const filename = withMimeExtension(sanitizeFilename(name, allocated), mimeType)
  if (filename !== name) renameSync(join(directory, name), join(directory, filename))
  return { filename, mimeType }
}

function ignoreMissing(error: unknown): undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error
}
