/** Reads a file once, piece by piece, with its digest. Runs in a pool thread. */
import { createHash } from 'node:crypto'
import { read } from 'node:fs'
import { promisify } from 'node:util'

/** What is known of a file that was read to its end. */
export interface FileDigest {
  /** Lower-case hex. */
  readonly sha256: string
  readonly sizeBytes: number
}

const BUFFER_BYTES = 256 * 1024

const readAsync = promisify(read)

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
