/** This replica's lease of the standalone stream of one session. */
import type { Log } from '../../shared/log.ts'
import type { SessionKey } from '../../shared/state/records.ts'
import type { StateStore, StreamClaim, StreamRelease } from '../../shared/state/store.ts'

/** See the file comment. */
export class Lease {
  readonly #store: StateStore
  readonly #key: SessionKey
  readonly #holder: string
  readonly #log: Log
  #epoch = 0
  #isChanging = false
  /** How to release what a claim that is under way still brings. */
  #forgone: StreamRelease | undefined

  /** `holder` names this replica. */
  constructor(store: StateStore, key: SessionKey, holder: string, log: Log) {
    this.#store = store
    this.#key = key
    this.#holder = holder
    this.#log = log
  }

  /** 0 when there is none. */
  get epoch(): number {
    return this.#epoch
  }

  /** Whether it is being claimed: what the store says of the epoch before means nothing then. */
  get isChanging(): boolean {
    return this.#isChanging
  }

  /** As `StateStore.claimStream`; released at once if it is not wanted any more. Rejects, and changes nothing, when the store fails. */
  async claim(expectedEpoch: number | null): Promise<StreamClaim> {
    this.#isChanging = true
    try {
      const claim = await this.#store.claimStream(this.#key, this.#holder, expectedEpoch)
      if (claim.ok) {
        this.#epoch = claim.epoch
        if (this.#forgone !== undefined) await this.#send(this.#forgone)
      }
      return claim
    } finally {
      this.#isChanging = false
    }
  }

  /** Gives it up. Without the store it ends by itself. */
  async release(how: StreamRelease): Promise<void> {
    this.forgo(how)
    if (this.#epoch !== 0 && !this.#isChanging) await this.#send(how)
  }

  /** Wants no lease any more; the present one is left as it is. */
  forgo(how: StreamRelease): void {
    this.#forgone ??= how
  }

  async #send(how: StreamRelease): Promise<void> {
    try {
      await this.#store.releaseStream(this.#key, this.#epoch, how)
    } catch (error) {
      this.#log.debug({ err: error }, 'a stream could not be released')
    }
  }
}
