/** Makes artifacts of files: room in the store, bytes in the item's directory, the record committed, and whatever fails undone. */
import { extname } from 'node:path'

import type { ArtifactProducerConfig } from '../../shared/config/config.ts'
import { UnsafePathError } from '../../shared/files/layout.ts'
import {
  mimeTypeOf,
  sanitizeFilename,
  SNIFF_BYTES,
  withExtension,
  withMimeExtension,
} from '../../shared/files/names.ts'
import { mintArtifactId, type ArtifactId } from '../../shared/ids.ts'
import type { ArtifactRecord, FileRef } from '../../shared/state/records.ts'
import type { ArtifactCommitted } from '../../shared/state/store.ts'
import type { KeptFile } from '../files/item-task.ts'
import type { FileDigest } from '../files/pump.ts'
import type { CallContext } from './adapter.ts'
import type { EmbeddedFile } from './embedded-content.ts'
import type { OpenSource } from './source-area.ts'
import { ToolRefusal } from './tool-refusal.ts'

/** An allocated artifact without a file yet. */
export interface PendingArtifact {
  readonly artifactId: ArtifactId
  readonly ref: FileRef
  readonly filename: string
  /** True when the caller chose the name, so that it stays whatever the file was called. */
  readonly isNameChosen: boolean
  /** Directory and absolute path for the file. */
  readonly directory: string
  readonly path: string
}

/** A file was written to while it was copied. */
export class ChangedFileError extends ToolRefusal {}

/** Keeps the files of one call. Refusals (limits, quotas, a file that may not be kept) reject with `ToolRefusal`; the item is gone then. */
export class ArtifactKeeper {
  readonly #context: CallContext
  readonly #adapter: ArtifactProducerConfig
  readonly #toolName: string
  /** Ids of items that made room for others. */
  readonly evictedIds = new Set<string>()

  constructor(context: CallContext, adapter: ArtifactProducerConfig, toolName: string) {
    this.#context = context
    this.#adapter = adapter
    this.#toolName = toolName
  }

  /** Allocates an artifact and its directory. `wantedName` null makes a name of the id. */
  async allocate(wantedName: string | null): Promise<PendingArtifact> {
    const { store, files, digests } = this.#context.services
    const artifactId = mintArtifactId()
    const fallback = `artifact-${artifactId}`
    const filename = wantedName === null ? fallback : sanitizeFilename(wantedName, fallback)
    const ref = this.#ref(artifactId)
    const outcome = await store.allocateArtifact(this.#context.key, {
      artifactId,
      filename,
      toolName: this.#toolName,
      exposeAsResource: this.#adapter.exposeAsResource,
    })
    if (outcome === 'session_gone') throw new ToolRefusal(SESSION_GONE)
    if (outcome === 'at_capacity') throw new ToolRefusal(this.#atCapacity())
    try {
      const directory = await digests.items.create(files, ref)
      const path = files.itemPath(ref, filename)
      return { artifactId, ref, filename, isNameChosen: filename !== fallback, directory, path }
    } catch (error) {
      await store.dropArtifact(this.#context.key, artifactId)
      throw error
    }
  }

  /** Forgets an allocated artifact with its directory. */
  async drop(pending: PendingArtifact): Promise<void> {
    await this.#context.services.store.dropArtifact(this.#context.key, pending.artifactId)
    await this.#context.services.files.removeItem(pending.ref)
  }

  /** Keeps a file that the tool wrote into the item's directory under the allocated name, or under a name of its own; undefined when there is none. */
  async keepInPlace(pending: PendingArtifact): Promise<ArtifactRecord | undefined> {
    const { files, digests } = this.#context.services
    return this.#undoing(pending, async () => {
      const kept = await digests.items
        .keep(files, pending.ref, pending.filename)
        .catch((error: unknown) => {
          if (!(error instanceof UnsafePathError)) throw error
          throw new ToolRefusal(
            `The tool ${this.#toolName} ran, but what it left at its output path is a symbolic link or no regular file, so it was removed.`,
            { cause: error },
          )
        })
      return kept && this.#commit(pending, kept)
    })
  }

  /** Keeps a copy of an open file; the handle stays the caller's. With `isFixed`, one that outgrows its size meanwhile is refused. */
  async keepCopy(
    pending: PendingArtifact,
    source: OpenSource,
    isFixed = false,
  ): Promise<ArtifactRecord> {
    return this.#undoing(pending, async () => {
      const head = await readHead(source)
      const mimeType = mimeTypeOf(pending.isNameChosen ? pending.filename : source.name, head)
      const wanted = pending.isNameChosen
        ? withExtension(pending.filename, extname(source.name))
        : source.name
      const filename = withMimeExtension(sanitizeFilename(wanted, pending.filename), mimeType)
      const { handle, sizeBytes, name } = source
      const from = { from: handle.fd, sizeBytes, name, isFixed }
      const digest = await this.#bringIn(pending, filename, from)
      return this.#commit(pending, { filename, mimeType, ...digest })
    })
  }

  /** Keeps bytes that came in a result. */
  async keepBytes(pending: PendingArtifact, file: EmbeddedFile): Promise<ArtifactRecord> {
    return this.#undoing(pending, async () => {
      const wanted = pending.isNameChosen
        ? withExtension(pending.filename, extname(file.filename))
        : file.filename
      const mimeType = mimeTypeOf(wanted, file.bytes.subarray(0, SNIFF_BYTES))
      const filename = withMimeExtension(wanted, mimeType)
      const { bytes } = file
      const from = { from: bytes, sizeBytes: bytes.byteLength, name: file.filename }
      const digest = await this.#bringIn(pending, filename, from)
      return this.#commit(pending, { filename, mimeType, ...digest })
    })
  }

  async #commit(
    pending: PendingArtifact,
    { filename, mimeType, sizeBytes, sha256 }: KeptFile,
  ): Promise<ArtifactRecord> {
    const { store } = this.#context.services
    const final = { filename, mimeType, sizeBytes, sha256 }
    const outcome = await store.commitArtifact(this.#context.key, pending.artifactId, final)
    if (!outcome.ok) throw new ToolRefusal(this.#refused(outcome.reason, sizeBytes))
    await this.#removeEvicted(outcome.evicted)
    return outcome.artifact
  }

  /** Copies within the quota; `from` is bytes or an open descriptor, `name` what the tool calls the file. */
  async #bringIn(
    pending: PendingArtifact,
    filename: string,
    source: {
      readonly from: number | Uint8Array
      readonly sizeBytes: number
      readonly name: string
      readonly isFixed?: boolean
    },
  ): Promise<FileDigest> {
    const { files, digests } = this.#context.services
    const reservation = await this.#reserve(source.sizeBytes)
    try {
      // A file that grows meanwhile must not outgrow what was set aside for it.
      const isCapped = reservation.isHeld || source.isFixed === true
      const maxBytes = isCapped ? source.sizeBytes : null
      const to = { ref: pending.ref, filename }
      const copied = await digests.items.copy(files, to, source.from, maxBytes)
      if (copied.ok) return { sizeBytes: copied.sizeBytes, sha256: copied.sha256 }
      throw new ChangedFileError(
        `The tool ${this.#toolName} ran, but its file "${source.name}" could not be kept: it changed while it was copied.`,
      )
    } finally {
      // Before the commit, which counts the bytes itself.
      await reservation.release()
    }
  }

  /** Sets room aside where there is a quota, so that a refused file is not copied first. */
  async #reserve(bytes: number): Promise<{ isHeld: boolean; release(): Promise<void> }> {
    const { config, store } = this.#context.services
    if (config.sessions.maxTotalSessionSize === null && config.storage.maxSize === null) {
      return { isHeld: false, release: async () => {} }
    }
    const { key } = this.#context
    const outcome = await store.reserveBytes(key, bytes)
    if (!outcome.ok) throw new ToolRefusal(this.#refused(outcome.reason, bytes))
    await this.#removeEvicted(outcome.evicted)
    return { isHeld: true, release: () => store.releaseBytes(key, outcome.reservationId) }
  }

  /** Their records are gone; a directory that can't be removed now is left to the sweeper. */
  async #removeEvicted(evicted: readonly FileRef[]): Promise<void> {
    const { files } = this.#context.services
    for (const { id } of evicted) this.evictedIds.add(id)
    await Promise.allSettled(evicted.map((ref) => files.removeItem(ref)))
  }

  /** Whatever goes wrong, the item does not stay behind. */
  async #undoing<Kept>(pending: PendingArtifact, keep: () => Promise<Kept>): Promise<Kept> {
    try {
      return await keep()
    } catch (error) {
      await this.drop(pending).catch(() => undefined) // the first error tells more
      throw error
    }
  }

  #ref(artifactId: ArtifactId): FileRef {
    const { serverId, sessionId } = this.#context.key
    return { serverId, sessionId, kind: 'artifacts', id: artifactId }
  }

  #atCapacity(): string {
    const limit = this.#context.services.config.artifacts.maxPerSession
    return `This session already holds as many artifacts as it may (artifacts.max_per_session: ${limit}). Wait until older ones expire or start a new session.`
  }

  #refused(reason: Extract<ArtifactCommitted, { ok: false }>['reason'], bytes: number): string {
    return `The tool ${this.#toolName} ran, but its file (${bytes} bytes) was not kept: ${REFUSED[reason]}`
  }
}

const REFUSED = {
  session_quota:
    "it does not fit into this session's storage quota. Calling the tool again will not help unless its output is smaller.",
  global_quota: 'the storage of this server is full. Try again later.',
  session_gone: 'the session has ended.',
  unknown: 'its artifact was removed while the tool was running. Call the tool again.',
} as const
const SESSION_GONE = 'The session has ended; start a new one.'

async function readHead(file: Pick<OpenSource, 'handle'>): Promise<Uint8Array> {
  const buffer = new Uint8Array(SNIFF_BYTES)
  const { bytesRead } = await file.handle.read(buffer, 0, SNIFF_BYTES, 0)
  return buffer.subarray(0, bytesRead)
}
