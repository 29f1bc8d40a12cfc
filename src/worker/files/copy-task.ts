/** What the pool's threads run to bring a file from elsewhere into an item: with its digest, capped, and whole under its name or not there at all. */
import { createHash } from 'node:crypto'
import { closeSync, fstat, renameSync, rmSync, write, writeSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

import { tempPathIn } from '../../shared/files/layout.ts'
import { SyncFileStore } from '../../shared/files/sync-file-store.ts'
import { ItemEntries, syncFile } from './durable.ts'
import { pump, type FileDigest } from './pump.ts'
import { settle, type TaskOutcome } from './task-outcome.ts'

/** What to copy where. Plain data: it crosses threads. */
export interface CopyOrder {
  /** Bytes, or an open descriptor: that is read from its start without moving its position, and stays the caller's. */
  readonly source: number | Uint8Array
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

/** See the file comment. The copy is durable when writes are atomic. */
export function copy(order: CopyOrder): Promise<TaskOutcome<Copied>> {
  return settle(copyInto(new SyncFileStore(order), order))
}

async function copyInto(files: SyncFileStore, order: CopyOrder): Promise<Copied> {
  const { source, directory, filename, maxBytes } = order
  const size = await sizeOf(source)
  if (size === undefined) return { ok: false, reason: 'not_regular' }
  if (maxBytes !== null && size > maxBytes) return { ok: false, reason: 'too_large' }
  const temp = tempPathIn(directory)
  const target = files.createFile(temp)
  let isKept = false
  try {
    const isSmall = size <= SMALL_BYTES
    const writePiece = isSmall ? writeInPlace : writeAll
    const consume = (piece: Buffer): Promise<void> => writePiece(target, piece)
    const digest =
      typeof source === 'number'
        ? await pump(source, maxBytes, consume)
        : await pumpBytes(source, consume)
    // The source grew while it was read.
    if (maxBytes !== null && digest.sizeBytes > maxBytes) return { ok: false, reason: 'too_large' }
    if (order.atomicWrites) await syncFile(target)
    renameSync(temp, join(directory, filename))
    isKept = true
    if (order.atomicWrites) await new ItemEntries().sync(directory)
    return { ok: true, ...digest }
  } finally {
    closeSync(target)
    if (!isKept) rmSync(temp, { force: true })
  }
}

/** Undefined for what is no regular file. */
async function sizeOf(source: number | Uint8Array): Promise<number | undefined> {
  if (typeof source !== 'number') return source.byteLength
  const stats = await fstatAsync(source)
  return stats.isFile() ? stats.size : undefined
}

/** Piece by piece, so that the thread's other tasks get their turns. */
async function pumpBytes(
  bytes: Uint8Array,
  consume: (piece: Buffer) => Promise<void>,
): Promise<FileDigest> {
  const hash = createHash('sha256')
  for (let start = 0; start < bytes.byteLength; start += SMALL_BYTES) {
    const length = Math.min(SMALL_BYTES, bytes.byteLength - start)
    const piece = Buffer.from(bytes.buffer, bytes.byteOffset + start, length)
    hash.update(piece)
    // oxlint-disable-next-line no-await-in-loop -- in order
    await consume(piece)
  }
  return { sha256: hash.digest('hex'), sizeBytes: bytes.byteLength }
}

async function writeInPlace(target: number, piece: Buffer): Promise<void> {
  let offset = 0
  while (offset < piece.byteLength) offset += writeSync(target, piece, offset)
}

async function writeAll(target: number, piece: Buffer): Promise<void> {
  let offset = 0
  while (offset < piece.byteLength) {
    // oxlint-disable-next-line no-await-in-loop -- a short write is continued where it stopped
    const { bytesWritten } = await writeAsync(
      target,
      piece,
      offset,
      piece.byteLength - offset,
      null,
    )
    offset += bytesWritten
  }
}
