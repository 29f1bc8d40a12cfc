/** What the pool's threads run to copy a file from elsewhere into an item: with its digest, capped, and whole under its name or not there at all. */
import { closeSync, fstat, fsync, fsyncSync, renameSync, rmSync, write, writeSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

import { tempPathIn } from '../../shared/files/layout.ts'
import { SyncFileStore } from '../../shared/files/sync-file-store.ts'
import { pump, type FileDigest } from './digest-task.ts'
import { settle, type TaskOutcome } from './task-outcome.ts'

/** What to copy where. Plain data: it crosses threads. */
export interface CopyOrder {
  /** An open descriptor; read from its start without moving its position, it stays the caller's. */
  readonly source: number
  readonly root: string
  readonly atomicWrites: boolean
  /** Directory of the item, and the file's name in it. */
  readonly directory: string
  readonly filename: string
  /** Null means no limit. */
  readonly maxBytes: number | null
}

/** A copy, or why there is none; nothing is left behind then. */
export type Copied =
  | ({ readonly ok: true } & FileDigest)
  | { readonly ok: false; readonly reason: 'too_large' | 'not_regular' }

/** Files up to this size are written in place, without a change of threads for each step; their source is not, for it can be on a slow volume. */
const SMALL_BYTES = 256 * 1024

const fstatAsync = promisify(fstat)
const writeAsync = promisify(write)
const fsyncAsync = promisify(fsync)

/** See the file comment. The copy is durable when writes are atomic. */
export function copy(order: CopyOrder): Promise<TaskOutcome<Copied>> {
  return settle(copyInto(new SyncFileStore(order), order))
}

async function copyInto(files: SyncFileStore, order: CopyOrder): Promise<Copied> {
  const { source, directory, filename, maxBytes } = order
  const stats = await fstatAsync(source)
  if (!stats.isFile()) return { ok: false, reason: 'not_regular' }
  if (maxBytes !== null && stats.size > maxBytes) return { ok: false, reason: 'too_large' }
  const temp = tempPathIn(directory)
  const target = files.createFile(temp)
  let isKept = false
  try {
    const isSmall = stats.size <= SMALL_BYTES
    const digest = await pump(source, maxBytes, (piece) =>
      isSmall ? writeInPlace(target, piece) : writeAll(target, piece),
    )
    // The source grew while it was read.
    if (maxBytes !== null && digest.sizeBytes > maxBytes) return { ok: false, reason: 'too_large' }
    if (order.atomicWrites && isSmall) fsyncSync(target)
    else if (order.atomicWrites) await fsyncAsync(target)
    renameSync(temp, join(directory, filename))
    isKept = true
    if (order.atomicWrites) files.syncItem(directory)
    return { ok: true, ...digest }
  } finally {
    closeSync(target)
    if (!isKept) rmSync(temp, { force: true })
  }
}

async function writeInPlace(target: number, piece: Buffer): Promise<void> {
  let offset = 0
  while (offset < piece.byteLength) offset += writeSync(target, piece, offset)
}

async function writeAll(target: number, piece: Buffer): Promise<void> {
  let offset = 0
  while (offset < piece.byteLength) {
    // oxlint-disable-next-line no-await-in-loop -- a short write is continued where it stopped
    const { bytesWritten } = await writeAsync(target, piece, offset, piece.byteLength - offset, null)
    offset += bytesWritten
  }
}
