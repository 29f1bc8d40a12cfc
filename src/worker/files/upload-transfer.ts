/** One upload from its first byte to its records: reserve, receive, check, publish, commit. All files of the request, or none. */
import { AdapterError } from '../../shared/errors.ts'
import type { FileStore } from '../../shared/files/file-store.ts'
import type { UploadGrant } from '../../shared/signing.ts'
import type { FileRef, SessionKey, UploadRecord } from '../../shared/state/records.ts'
import type { StateStore } from '../../shared/state/store.ts'
import type { Exchange } from '../exchange/exchange.ts'
import { BodyCancelledError } from './body-port.ts'
import type { BodyReceiver } from './body-receiver.ts'
import type { DigestPool } from './digest-pool.ts'
import type { Received, ReceivedFile } from './receive-body.ts'
import { parseDigest, PART_OVERHEAD_BYTES, type UploadForm } from './upload-request.ts'
import { sessionGone, UploadReservation } from './upload-reservation.ts'

/** What a transfer works with. */
export interface TransferServices {
  readonly store: StateStore
  readonly files: FileStore
  readonly digests: DigestPool
}

/** Bounds of a transfer. */
export interface TransferLimits {
  readonly maxFileBytes: number
  readonly requireSha256: boolean
  /** Longest silence of a client that is not being held back by us. */
  readonly idleTimeoutMs: number
  /** Longest duration of a request body. */
  readonly maxDurationMs: number
}

/** How often a running upload tells the store that it is there, and is checked for silence. */
const HEARTBEAT_MS = 15_000
/** A nonce outlives its URL by the longest upload, so that none that began in time can be committed twice. */
const NONCE_MARGIN_MS = 60_000

/** See the file comment. */
export class UploadTransfer {
  readonly #services: TransferServices
  readonly #limits: TransferLimits
  readonly #grant: UploadGrant
  readonly #key: SessionKey
  readonly #reservation: UploadReservation

  constructor(services: TransferServices, limits: TransferLimits, grant: UploadGrant) {
    this.#services = services
    this.#limits = limits
    this.#grant = grant
    this.#key = { serverId: grant.serverId, sessionId: grant.sessionId }
    this.#reservation = new UploadReservation(services.store, services.files, this.#key)
  }

  /** Rejects with an `AdapterError`, a store error, a file-system error, or `BodyCancelledError` when the client left; nothing is left behind then. */
  async run(exchange: Exchange, form: UploadForm): Promise<readonly UploadRecord[]> {
    try {
      const received = await this.#receive(exchange, form)
      return await this.#keep(exchange, form, received)
    } catch (error) {
      await this.#reservation.release()
      throw error
    }
  }

  async #receive(exchange: Exchange, form: UploadForm): Promise<Received> {
    const announced = form.bodyBytes ?? 0
    const isRaw = form.form.kind === 'raw'
    // Most of a form's bytes are the files': a form that can't fit is refused before it is sent.
    const surely = isRaw ? announced : Math.max(0, announced - PART_OVERHEAD_BYTES)
    const reservedBytes = await this.#reservation.grow(surely, announced)
    const receiver = this.#services.digests.receive(
      {
        storage: {
          root: this.#services.files.root,
          atomicWrites: this.#services.files.atomicWrites,
          rootedServers: this.#services.files.rootedServers,
        },
        key: this.#key,
        form: form.form,
        maxFileBytes: this.#limits.maxFileBytes,
        bodyBytes: form.bodyBytes,
        reservedBytes,
      },
      (atLeast, upTo) => this.#reservation.grow(atLeast, upTo),
    )
    const feed = new BodyFeed(exchange, receiver, form.bodyBytes)
    const watch = this.#watch(feed, receiver)
    try {
      feed.start()
      return await receiver.result
    } catch (error) {
      throw feed.failure ?? error
    } finally {
      clearInterval(watch)
    }
  }

  #watch(feed: BodyFeed, receiver: BodyReceiver): NodeJS.Timeout {
    const { idleTimeoutMs, maxDurationMs } = this.#limits
    const startedAtMs = Date.now()
    const period = Math.min(HEARTBEAT_MS, idleTimeoutMs / 2, maxDurationMs / 2)
    return setInterval(() => {
      const now = Date.now()
      if (feed.idleSince(now) > idleTimeoutMs || now - startedAtMs > maxDurationMs) {
        feed.failure ??= incomplete('the upload was too slow: its body did not arrive in time')
        receiver.cancel()
      }
      void this.#reservation.keep()
    }, period)
  }

  async #keep(
    exchange: Exchange,
    form: UploadForm,
    received: Received,
  ): Promise<readonly UploadRecord[]> {
    try {
      this.#checkDigests(form, received)
      if (!exchange.isOpen) throw new BodyCancelledError('the client left')
      await Promise.all(received.files.map((file) => this.#publish(file)))
      const records = received.files.map(recordOf)
      await this.#commit(records)
      return records
    } catch (error) {
      await Promise.allSettled(
        received.files.map((file) => this.#services.files.removeItem(this.#refOf(file))),
      )
      throw error
    }
  }

  /** Digests pair with files by position; wherever they stood in the form. */
  #checkDigests(form: UploadForm, { files, digests }: Received): void {
    const expected = form.digest === undefined ? digests.map(parseDigest) : [form.digest]
    if (expected.length > 0 && expected.length !== files.length) {
      throw new AdapterError(
        'ADAPTER_UPLOAD_MALFORMED',
        `there are ${expected.length} sha256 values for ${files.length} files`,
      )
    }
    if (expected.length === 0 && this.#limits.requireSha256) {
      throw new AdapterError(
        'ADAPTER_UPLOAD_DIGEST_REQUIRED',
        'a sha256 value is required for each file',
      )
    }
    for (const [index, digest] of expected.entries()) {
      const file = files[index]
      if (file === undefined || file.sha256 === digest) continue
      throw new AdapterError(
        'ADAPTER_UPLOAD_DIGEST_MISMATCH',
        `file ${index + 1} (${file.filename}) does not have the announced sha256`,
        { data: { file_index: index, expected_sha256: digest, actual_sha256: file.sha256 } },
      )
    }
  }

  async #publish(file: ReceivedFile): Promise<void> {
    const { files } = this.#services
    await files.publish(file.tempPath, files.itemPath(this.#refOf(file), file.filename))
  }

  async #commit(records: readonly UploadRecord[]): Promise<void> {
    const nonce = {
      value: this.#grant.nonce,
      expiresAtMs:
        Math.max(this.#grant.expiresAtSeconds * 1000, Date.now()) +
        this.#limits.maxDurationMs +
        NONCE_MARGIN_MS,
    }
    const { store } = this.#services
    const committed = await store.commitUploads(this.#key, this.#reservation.id, records, nonce)
    if (committed.ok) return
    switch (committed.reason) {
      case 'nonce_used':
        throw ticketUsed()
      case 'session_gone':
        throw sessionGone()
      case 'reservation_gone':
        throw incomplete('the upload outlived its reservation: send it again')
    }
  }

  #refOf(file: { readonly uploadId: string }): FileRef {
    return { ...this.#key, kind: 'uploads', id: file.uploadId }
  }
}

/** The URL was used already. */
export function ticketUsed(): AdapterError {
  return new AdapterError(
    'ADAPTER_UPLOAD_TICKET_USED',
    'this upload URL was used already: ask for a new one',
  )
}

function incomplete(message: string): AdapterError {
  return new AdapterError('ADAPTER_UPLOAD_INCOMPLETE', message)
}

function recordOf(file: ReceivedFile): UploadRecord {
  const { uploadId, filename, mimeType, sizeBytes, sha256 } = file
  return { uploadId, filename, mimeType, sizeBytes, sha256, createdAtMs: Date.now() }
}

/** Forwards a request's body to its receiver and holds the client back when that is behind. */
class BodyFeed {
  readonly #exchange: Exchange
  readonly #receiver: BodyReceiver
  readonly #bodyBytes: number | null
  #arrivedBytes = 0
  #isPaused = false
  #lastProgressMs = Date.now()
  /** Why the body was given up, when that was decided here. */
  failure: AdapterError | undefined

  constructor(exchange: Exchange, receiver: BodyReceiver, bodyBytes: number | null) {
    this.#exchange = exchange
    this.#receiver = receiver
    this.#bodyBytes = bodyBytes
  }

  start(): void {
    this.#exchange.onAbort(() => this.#receiver.cancel())
    if (!this.#exchange.isOpen) this.#receiver.cancel()
    this.#receiver.onDrain(() => {
      this.#isPaused = false
      this.#lastProgressMs = Date.now()
      this.#exchange.resumeBody()
    })
    this.#exchange.readBody({ data: (chunk) => this.#data(chunk), end: () => this.#end() })
  }

  /** Milliseconds since the client last sent something; 0 while it is held back. */
  idleSince(nowMs: number): number {
    return this.#isPaused ? 0 : nowMs - this.#lastProgressMs
  }

  #data(chunk: Uint8Array): void {
    this.#arrivedBytes += chunk.byteLength
    this.#lastProgressMs = Date.now()
    if (this.#receiver.write(chunk) || this.#isPaused) return
    this.#isPaused = true
    this.#exchange.pauseBody()
  }

  #end(): void {
    if (this.#bodyBytes !== null && this.#arrivedBytes !== this.#bodyBytes) {
      this.failure = incomplete('the body is not as long as Content-Length says')
      this.#receiver.cancel()
    } else {
      this.#receiver.end()
    }
  }
}
