/** Writes one incoming file to a temporary file while hashing it, within a cap and within reserved room. Runs in a pool thread. */
import { createHash, type Hash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'

import { AdapterError } from '../../shared/errors.ts'
import type { FileStore } from '../../shared/files/file-store.ts'
import { tempPathIn } from '../../shared/files/layout.ts'
import { SNIFF_BYTES } from '../../shared/files/names.ts'
import { mintUploadId, type UploadId } from '../../shared/ids.ts'
import type { FileRef, SessionKey } from '../../shared/state/records.ts'

/** Room that was reserved for the files of one request. */
export interface Room {
  /** Resolves when `bytes` more may be written. */
  use(bytes: number): Promise<void>
}

/** A file that is complete under its temporary name. */
export interface StagedFile {
  readonly uploadId: UploadId
  readonly tempPath: string
  readonly sizeBytes: number
  readonly sha256: string
  /** What a media type is told by. */
  readonly firstBytes: Uint8Array
}

interface OpenFile {
  readonly handle: FileHandle
  readonly path: string
}

/** See the file comment. Nothing is created before `open`. */
export class FileSink {
  readonly uploadId = mintUploadId()
  readonly #files: FileStore
  readonly #ref: FileRef
  readonly #maxBytes: number
  readonly #room: Room
  readonly #hash: Hash = createHash('sha256')
  #file: OpenFile | undefined
  #sizeBytes = 0
  #firstBytes: Buffer = Buffer.alloc(0)

  constructor(options: { files: FileStore; key: SessionKey; maxBytes: number; room: Room }) {
    const { serverId, sessionId } = options.key
    this.#ref = { serverId, sessionId, kind: 'uploads', id: this.uploadId }
    this.#files = options.files
    this.#maxBytes = options.maxBytes
    this.#room = options.room
  }

  async open(): Promise<void> {
    const directory = await this.#files.createItemDir(this.#ref)
    const path = tempPathIn(directory)
    this.#file = { handle: await this.#files.createFile(path), path }
  }

  /** Appends a piece; calls must not overlap. Rejects with `ADAPTER_UPLOAD_TOO_LARGE` before a byte beyond the cap is written. */
  async write(piece: Buffer): Promise<void> {
    if (this.#sizeBytes + piece.byteLength > this.#maxBytes) {
      throw new AdapterError(
        'ADAPTER_UPLOAD_TOO_LARGE',
        `a file is larger than the limit of ${this.#maxBytes} bytes`,
        { data: { max_file_bytes: this.#maxBytes } },
      )
    }
    await this.#room.use(piece.byteLength)
    // Asynchronous on purpose, though a synchronous write is about 15 % faster on a local disk: a volume that stalls must not stop the other uploads
    // of this thread. The hash is computed while a thread of the I/O pool writes.
    const written = this.#writeAll(piece)
    this.#hash.update(piece)
    if (this.#firstBytes.byteLength < SNIFF_BYTES) {
      this.#firstBytes = Buffer.concat([this.#firstBytes, piece.subarray(0, SNIFF_BYTES)])
    }
    this.#sizeBytes += piece.byteLength
    await written
  }

  /** Closes the file and answers what it is. */
  async finish(): Promise<StagedFile> {
    const file = this.#opened()
    await file.handle.close()
    return {
      uploadId: this.uploadId,
      tempPath: file.path,
      sizeBytes: this.#sizeBytes,
      sha256: this.#hash.digest('hex'),
      firstBytes: new Uint8Array(this.#firstBytes.subarray(0, SNIFF_BYTES)),
    }
  }

  /** Removes what was written, also after `finish`. */
  async discard(): Promise<void> {
    await this.#file?.handle.close().catch(() => undefined) // closed already, or the disk is failing anyway
    await this.#files.removeItem(this.#ref)
  }

  async #writeAll(piece: Buffer): Promise<void> {
    const { handle } = this.#opened()
    let offset = 0
    while (offset < piece.byteLength) {
      // oxlint-disable-next-line no-await-in-loop -- a short write is continued where it stopped
      const { bytesWritten } = await handle.write(piece, offset)
      offset += bytesWritten
    }
  }

  #opened(): OpenFile {
    if (this.#file === undefined) throw new Error('the sink is not open')
    return this.#file
  }
}
