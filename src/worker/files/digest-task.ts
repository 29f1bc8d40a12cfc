/** What the pool's threads run for bodies and digests. */
import { createHash } from 'node:crypto'
import { fstat, read } from 'node:fs'
import { open } from 'node:fs/promises'
import { promisify } from 'node:util'
import type { MessagePort } from 'node:worker_threads'

import { READ_FLAGS } from '../../shared/files/layout.ts'
import { PortBody } from './body-port.ts'
import { receiveBody, type Received, type ReceiveOrder } from './receive-body.ts'
import { settle, type TaskOutcome } from './task-outcome.ts'

/** What is known of a file that was read to its end. */
export interface FileDigest {
  /** Lower-case hex. */
  readonly sha256: string
  readonly sizeBytes: number
}

export interface ReceiveTask {
  readonly order: ReceiveOrder
  readonly port: MessagePort
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
