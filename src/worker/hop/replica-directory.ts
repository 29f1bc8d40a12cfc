/** Where other replicas are reached, and which are gone: what the store tells, and how long to wait for it to tell. */
import type { RemoteStore } from '../../shared/state/remote.ts'

/** A replica that nobody has heard of may have been started just now: its first beat is heard within half a second, in milliseconds. */
const UNKNOWN_WAIT_MS = 1_000

/** Replicas that ended are remembered up to this number. */
const MAX_LOST = 1_000

/** What a directory hears from. */
export type ReplicaSource = Pick<
  RemoteStore,
  'replicas' | 'hopOf' | 'onReplicasLost' | 'onReplicasChange'
>

/** See the file comment. */
export class ReplicaDirectory {
  readonly #source: ReplicaSource
  readonly #own: { readonly replicaId: string; readonly hopUrl: string | null }
  /** In the order of their loss. */
  readonly #lost = new Set<string>()
  /** Where replicas were reached last, for when the store can't be asked. */
  #known = new Map<string, string>()
  readonly #waiting = new Set<() => void>()
  readonly #listeners: (() => void)[] = []

  constructor(
    source: ReplicaSource,
    own: { readonly replicaId: string; readonly hopUrl: string | null },
  ) {
    this.#source = source
    this.#own = own
    source.onReplicasLost((ids) => {
      for (const id of ids) this.#lost.add(id)
      for (const id of this.#lost) {
        if (this.#lost.size <= MAX_LOST) break
        this.#lost.delete(id)
      }
      this.#tell()
    })
    source.onReplicasChange(() => {
      // One that was only paused is back.
      for (const id of source.replicas) this.#lost.delete(id)
      this.#note()
      this.#tell()
    })
    this.#note()
  }

  /** Where a replica is reached; null when it is gone, or holds nothing for others. Waits a moment for one that is not known yet. */
  find(replicaId: string): string | null | Promise<string | null> {
    if (replicaId === this.#own.replicaId) return this.#own.hopUrl
    const url = this.#known.get(replicaId)
    if (this.isGone(replicaId)) return null
    if (url !== undefined) return url
    // A store of one process: it was an earlier life of it.
    if (this.#source.replicas.length === 0) return null
    return this.#await(
      () => this.#known.has(replicaId) || this.#lost.has(replicaId),
      UNKNOWN_WAIT_MS,
    ).then(() => (this.isGone(replicaId) ? null : (this.#known.get(replicaId) ?? null)))
  }

  /** Whether a replica that was known, or looked for, has ended. */
  isGone(replicaId: string): boolean {
    if (replicaId === this.#own.replicaId) return false
    const { replicas } = this.#source
    // Without any, the shared store can't be reached, and who was there before may still be.
    const hasLeft =
      replicas.length > 0 && this.#known.has(replicaId) && !replicas.includes(replicaId)
    return this.#lost.has(replicaId) || hasLeft
  }

  /** Whether a replica is known to be there now. */
  isThere(replicaId: string): boolean {
    return this.#source.replicas.includes(replicaId) && !this.isGone(replicaId)
  }

  /** Whether a replica is gone, now or within `limitMs`. */
  async isGoneWithin(replicaId: string, limitMs: number): Promise<boolean> {
    await this.#await(() => this.isGone(replicaId), limitMs)
    return this.isGone(replicaId)
  }

  /** Calls back when replicas may have come or gone. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener)
  }

  #note(): void {
    const { replicas } = this.#source
    if (replicas.length === 0) return
    for (const id of replicas) {
      const url = this.#source.hopOf(id)
      if (url !== undefined) this.#known.set(id, url)
    }
    // Those that left are kept for as long as the lost ones: calls under way to them have to be ended.
    for (const id of this.#known.keys()) {
      if (this.#known.size <= MAX_LOST) break
      if (!replicas.includes(id)) this.#known.delete(id)
    }
  }

  #tell(): void {
    for (const look of this.#waiting) look()
    for (const listener of this.#listeners) listener()
  }

  #await(condition: () => boolean, limitMs: number): Promise<void> {
    if (condition()) return Promise.resolve()
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer)
        this.#waiting.delete(look)
        resolve()
      }
      const look = (): void => {
        if (condition()) done()
      }
      const timer = setTimeout(done, limitMs)
      this.#waiting.add(look)
    })
  }
}
