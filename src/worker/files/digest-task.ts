/** What the pool's threads run for bodies, digests and copies. */
import { createHash } from 'node:crypto'
import { constants, fstat, read } from 'node:fs'
import { open, rename, rm, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import type { MessagePort } from 'node:worker_threads'

import { CREATE_FLAGS, READ_FLAGS, tempPathIn } from '../../shared/files/layout.ts'
import { PortBody } from './body-port.ts'
import { receiveBody, type Received, type ReceiveOrder } from './receive-body.ts'
import { settle, type TaskOutcome } from './task-outcome.ts'

/** What is known of a file that was read to its end. */
export interface FileDigest {
  /** Lower-case hex. */
  readonly sha256: string
  readonly sizeBytes: number
}

/** A copy, or why there is none; nothing is left behind then. */
export type Copied =
  | ({ readonly ok: true } & FileDigest)
  | { readonly ok: false; readonly reason: 'too_large' | 'not_regular' }

export interface ReceiveTask {
  readonly order: ReceiveOrder
  readonly port: MessagePort
}

export interface CopyTask {
  readonly source: string | number
  readonly target: string
  readonly maxBytes: number | null
}

const BUFFER_BYTES = 256 * 1024

const readAsync = promisify(read)
const fstatAsync = promisify(fstat)

/** Receives one request body. */
export function receive(task: ReceiveTask): Promise<TaskOutcome<Received>> {
  const body = new PortBody(task.port)
  return settle(receiveBody(task.order, body).finally(() => body.close()))
}

/** Hashes a regular file. */
export function digest(source: string | number): Promise<TaskOutcome<FileDigest>> {
  return settle(
    withSource(source, async (fd) => {
      if (!(await fstatAsync(fd)).isFile()) throw new Error(`${source} is not a regular file`)
      return pump(fd, null, () => Promise.resolve())
    }),
  )
}

/** Copies a regular file with its digest. */
export function copy(task: CopyTask): Promise<TaskOutcome<Copied>> {
  return settle(withSource(task.source, (fd) => copyFrom(fd, task)))
}

async function copyFrom(fd: number, task: CopyTask): Promise<Copied> {
  const stats = await fstatAsync(fd)
  if (!stats.isFile()) return { ok: false, reason: 'not_regular' }
  if (task.maxBytes !== null && stats.size > task.maxBytes)
    return { ok: false, reason: 'too_large' }
  const temp = tempPathIn(dirname(task.target))
  try {
    const copied = await writeCopy(fd, temp, task.maxBytes)
    if (copied === 'too_large') return { ok: false, reason: 'too_large' }
    await rename(temp, task.target)
    await syncDirectory(dirname(task.target))
    return { ok: true, ...copied }
  } finally {
    await rm(temp, { force: true })
  }
}

async function writeCopy(
  fd: number,
  temp: string,
  maxBytes: number | null,
): Promise<FileDigest | 'too_large'> {
  const target = await open(temp, CREATE_FLAGS)
  try {
    const copied = await pump(fd, maxBytes, (piece) => writeAll(target, piece))
    // The source grew while it was read.
    if (maxBytes !== null && copied.sizeBytes > maxBytes) return 'too_large'
    await target.sync()
    return copied
  } finally {
    await target.close()
  }
}

/** Reads from the start to the end, or until more than `maxBytes` came; positions are explicit, so that a shared descriptor is not disturbed. */
export async function pump(
  fd: number,
  maxBytes: number | null,
  consume: (piece: Buffer) => Promise<void>,
): Promise<FileDigest> {
  const hash = createHash('sha256')
  const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES)
  let sizeBytes = 0
  for (;;) {
    // oxlint-disable-next-line no-await-in-loop -- constant memory is the point
    const { bytesRead } = await readAsync(fd, buffer, 0, BUFFER_BYTES, sizeBytes)
    if (bytesRead === 0) break
    sizeBytes += bytesRead
    if (maxBytes !== null && sizeBytes > maxBytes) break
    const piece = buffer.subarray(0, bytesRead)
    const consumed = consume(piece)
    hash.update(piece)
    // oxlint-disable-next-line no-await-in-loop -- the buffer is used again
    await consumed
  }
  return { sha256: hash.digest('hex'), sizeBytes }
}

async function withSource<T>(
  source: string | number,
  work: (fd: number) => Promise<T>,
): Promise<T> {
  if (typeof source === 'number') return work(source)
  const handle = await open(source, READ_FLAGS)
  try {
    return await work(handle.fd)
  } finally {
    await handle.close()
  }
}

async function writeAll(target: FileHandle, piece: Buffer): Promise<void> {
  let offset = 0
  while (offset < piece.byteLength) {
    // oxlint-disable-next-line no-await-in-loop -- a short write is continued where it stopped
    offset += (await target.write(piece, offset)).bytesWritten
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, constants.O_RDONLY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
