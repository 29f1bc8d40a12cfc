/** Room in the store for the files of one upload request: grows as they arrive, given back when they do not get there. */
import { AdapterError } from '../../shared/errors.ts'
import type { FileStore } from '../../shared/files/file-store.ts'
import type { SessionKey } from '../../shared/state/records.ts'
import type { Reserved, StateStore } from '../../shared/state/store.ts'

/** See the file comment. */
export class UploadReservation {
  readonly #store: StateStore
  readonly #files: FileStore
  readonly #key: SessionKey
  #id: string | undefined

  constructor(store: StateStore, files: FileStore, key: SessionKey) {
    this.#store = store
    this.#files = files
    this.#key = key
  }

  /** The store's id. Throws before the first `grow`. */
  get id(): string {
    if (this.#id === undefined) throw new Error('nothing is reserved yet')
    return this.#id
  }

  /**
   * Sets aside `upToBytes`, or `atLeastBytes` when more does not fit; answers how much it was. Rejects with an `AdapterError` that names the limit.
   * What the store evicted for it is removed from disk.
   */
  async grow(atLeastBytes: number, upToBytes: number): Promise<number> {
    const generous = await this.#ask(upToBytes)
    if (generous.ok) return upToBytes
    const exact = upToBytes > atLeastBytes ? await this.#ask(atLeastBytes) : generous
    if (exact.ok) return atLeastBytes
    throw refusalOf(exact.reason)
  }

  /** Tells the store that reservation and session are in use. Never rejects: a store that fails now is noticed at the commit. */
  async keep(): Promise<void> {
    if (this.#id === undefined) return
    await this.#store.reserveBytes(this.#key, 0, this.#id).catch(() => undefined)
  }

  /** Gives everything back. Never rejects: what can't be given back now is dropped with the session. */
  async release(): Promise<void> {
    if (this.#id === undefined) return
    await this.#store.releaseBytes(this.#key, this.#id).catch(() => undefined)
  }

  async #ask(bytes: number): Promise<Reserved> {
    const reserved = await this.#store.reserveBytes(this.#key, bytes, this.#id)
    if (reserved.ok) {
      this.#id = reserved.reservationId
      // Their records are gone; a directory that can't be removed now is the orphan sweep's.
      await Promise.allSettled(reserved.evicted.map((ref) => this.#files.removeItem(ref)))
    }
    return reserved
  }
}

function refusalOf(reason: 'session_gone' | 'session_quota' | 'global_quota'): AdapterError {
  if (reason === 'session_gone') return sessionGone()
  return reason === 'session_quota'
    ? new AdapterError('ADAPTER_SESSION_QUOTA', 'the files do not fit into this session')
    : new AdapterError('ADAPTER_GLOBAL_QUOTA', 'the files do not fit into the storage now')
}

/** The session of an upload does not exist any more. */
export function sessionGone(): AdapterError {
  return new AdapterError(
    'ADAPTER_SESSION_UNKNOWN',
    'the session of this upload URL has ended: start a session and ask for a new URL',
  )
}
