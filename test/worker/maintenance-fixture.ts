/** A store and files with things in them, for tests of maintenance. */
import { createHash } from 'node:crypto'
import { utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import type { Test } from 'tap'

import { FileStore } from '../../src/shared/files/file-store.ts'
import { mintUploadId, parseUploadId } from '../../src/shared/ids.ts'
import type {
  FileRef,
  SessionKey,
  SessionRecord,
  UploadRecord,
} from '../../src/shared/state/records.ts'
import type { StateStore, StorePolicy } from '../../src/shared/state/store.ts'
import { FileClock } from '../../src/shared/files/file-clock.ts'
import type { Clock } from '../../src/worker/maintenance/lease.ts'
import { UNCONTESTED } from '../../src/worker/maintenance/maintenance-lock.ts'
import {
  Sweeper,
  type MaintenanceReport,
  type SweeperOptions,
} from '../../src/worker/maintenance/sweeper.ts'
import { openTestStore, tempRoot } from './files-fixture.ts'

/** Milliseconds. */
export const MINUTE = 60_000
/** In hex. */
export const sha256 = (content: string) => createHash('sha256').update(content).digest('hex')

/** What tests hold; `advance` moves the clocks of the store and of the sweepers, not that of the files. */
export interface Rig {
  readonly files: FileStore
  readonly store: StateStore
  readonly ended: SessionRecord[]
  readonly clock: Clock
  advance(ms: number): void
  sweeper(options?: Partial<SweeperOptions>): Sweeper
}

/** A store in memory and files in a temporary directory. */
export async function startRig(t: Test, policy: Partial<StorePolicy> = {}): Promise<Rig> {
  let nowMs = Date.now()
  const files = new FileStore({ root: await tempRoot(t), atomicWrites: true })
  const store = openTestStore(t, policy, () => nowMs)
  const ended: SessionRecord[] = []
  const clock = { monotonicMs: () => nowMs, wallMs: () => nowMs }
  return {
    files,
    store,
    ended,
    clock,
    advance: (ms) => (nowMs += ms),
    sweeper: (options = {}) => {
      const sweeper = new Sweeper({
        store,
        files,
        orphans: { enabled: true, graceMs: 5 * MINUTE },
        fileClock: new FileClock(join(files.root, 'sessions')),
        clock,
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

/** The record of an upload of one byte. */
export function uploadRecord(id: string, filename: string): UploadRecord {
  const uploadId = parseUploadId(id)
  if (uploadId === undefined) throw new TypeError(`no upload id: ${id}`)
  return {
    uploadId,
    filename,
    mimeType: 'text/plain',
    sizeBytes: 1,
    sha256: sha256('x'),
    createdAtMs: Date.now(),
  }
}

/** Stores an old file of one byte as an upload. */
export async function commitUpload(
  rig: Rig,
  key: SessionKey,
  name = 'a.txt',
): Promise<UploadRecord> {
  const uploadId = mintUploadId()
  await place(rig.files, { ...uploadRef(key), id: uploadId }, name, 60 * MINUTE)
  const record = uploadRecord(uploadId, name)
  const reserved = await rig.store.reserveBytes(key, 1)
  if (reserved.ok) await rig.store.commitUploads(key, reserved.reservationId, [record])
  return record
}

/** A run, and another one when what the first saw has been unowned for the grace of ten minutes at most. */
export async function runTwice(rig: Rig, sweeper: Sweeper): Promise<MaintenanceReport> {
  await sweeper.runOnce(UNCONTESTED)
  rig.advance(10 * MINUTE)
  return sweeper.runOnce(UNCONTESTED)
}
