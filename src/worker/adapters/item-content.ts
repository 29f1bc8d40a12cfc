/** Reads a whole artifact for an answer, within a limit. */
import type { ArtifactRecord, FileRef } from '../../shared/state/records.ts'
import type { CallContext } from './adapter.ts'

/** The bytes of an artifact of the caller's session, or why there are none. */
export async function readWhole(
  context: CallContext,
  artifact: ArtifactRecord,
  maxBytes: number,
): Promise<Buffer | 'too_large' | 'missing'> {
  const { serverId, sessionId } = context.key
  const ref: FileRef = { serverId, sessionId, kind: 'artifacts', id: artifact.artifactId }
  try {
    const item = await context.services.files.openItem(ref, artifact.filename)
    try {
      if (item.sizeBytes > maxBytes) return 'too_large'
      return await readExactly(item.handle, item.sizeBytes)
    } finally {
      await item.handle.close()
    }
  } catch {
    // Gone, replaced by a link, unreadable: for the caller it is not there.
    return 'missing'
  }
}

/** The bytes as text when they are valid UTF-8. */
export function textOfBytes(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return undefined
  }
}

/** At most `length` bytes, also when the file grows meanwhile. */
async function readExactly(
  handle: {
    read(
      buffer: Buffer,
      offset: number,
      length: number,
      position: number,
    ): Promise<{ bytesRead: number }>
  },
  length: number,
): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(length)
  let at = 0
  while (at < length) {
    // oxlint-disable-next-line no-await-in-loop -- a short read is continued where it stopped
    const { bytesRead } = await handle.read(buffer, at, length - at, at)
    if (bytesRead === 0) break
    at += bytesRead
  }
  return buffer.subarray(0, at)
}
