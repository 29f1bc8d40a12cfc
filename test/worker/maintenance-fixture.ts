/** A store and files with things in them, for tests of maintenance. */
import { createHash } from 'node:crypto'
import { utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import type { Test } from 'tap'

import { FileStore } from '../../src/shared/files/file-store.ts'
import { mintUploadId } from '../../src/shared/ids.ts'
import type {
  FileRef,
  SessionKey,
  SessionRecord,
  UploadRecord,
} from '../../src/shared/state/records.ts'
import type { StateStore, StorePolicy } from '../../src/shared/state/store.ts'
import { Sweeper, type SweeperOptions } from '../../src/worker/maintenance/sweeper.ts'
import { openTestStore, tempRoot } from './files-fixture.ts'

/** Milliseconds. */
export const MINUTE = 60_000
/** In hex. */
export const sha256 = (content: string) => createHash('sha256').update(content).digest('hex')

/** What tests hold; `advance` moves the clock of the store. */
export interface Rig {
  readonly files: FileStore
  readonly store: StateStore
  readonly ended: SessionRecord[]
  advance(ms: number): void
  sweeper(options?: Partial<SweeperOptions>): Sweeper
}

/** A store in memory and files in a temporary directory. */
export async function startRig(t: Test, policy: Partial<StorePolicy> = {}): Promise<Rig> {
  let nowMs = Date.now()
  const files = new FileStore({ root: await tempRoot(t), atomicWrites: true })
  const store = openTestStore(t, policy, () => nowMs)
  const ended: SessionRecord[] = []
  return {
    files,
    store,
    ended,
    advance: (ms) => (nowMs += ms),
    sweeper: (options = {}) => {
      const sweeper = new Sweeper({
        store,
        files,
        intervalMs: null,
        orphans: { enabled: true, graceMs: 5 * MINUTE },
        aliveSessions: () => [],
        onSessionsEnded: (records) => void ended.push(...records),
        ...options,
      })
      t.teardown(() => sweeper.stop())
      return sweeper
    },
  }
}

/** Puts a file of a given age on disk, without a record. */
export async function place(
  files: FileStore,
  ref: FileRef,
  name: string,
  ageMs = 0,
  content = 'x',
): Promise<string> {
  const directory = await files.createItemDir(ref)
  const path = join(directory, name)
  await writeFile(path, content)
  const then = new Date(Date.now() - ageMs)
  await utimes(path, then, then)
  for (let parent = directory; parent.length > files.root.length; parent = dirname(parent)) {
    await utimes(parent, then, then)
  }
  return path
}

/** A new upload of a session. */
export function uploadRef(key: SessionKey): FileRef {
  const { serverId, sessionId } = key
  return { serverId, sessionId, kind: 'uploads', id: mintUploadId() }
}

/** Stores an old file of one byte as an upload. */
export async function commitUpload(
  rig: Rig,
  key: SessionKey,
  name = 'a.txt',
): Promise<UploadRecord> {
  const uploadId = mintUploadId()
  await place(rig.files, { ...uploadRef(key), id: uploadId }, name, 60 * MINUTE)
  const record = {
    uploadId,
    filename: name,
    mimeType: 'text/plain',
    sizeBytes: 1,
    sha256: sha256('x'),
    createdAtMs: Date.now(),
  }
  const reserved = await rig.store.reserveBytes(key, 1)
  if (reserved.ok) await rig.store.commitUploads(key, reserved.reservationId, [record])
  return record
}
