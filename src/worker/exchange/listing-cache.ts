/** Listings of one upstream that may be shown again, as bytes around the id of the request; bounded by bytes and by age. */
import type { Around } from './known-answers.ts'

/** Most bytes of all listings together. */
const MAX_BYTES = 8 * 1024 * 1024
/** What one is counted for besides its bytes. */
const OVERHEAD_BYTES = 512

interface Kept {
  readonly around: Around
  readonly scope: string
  readonly bytes: number
  readonly expiresAtMs: number
}

/** See the file comment. A scope is what is dropped together. */
export class ListingCache {
  readonly #ttlMs: number
  readonly #maxBytes: number
  /** The one that was used last comes last. */
  readonly #kept = new Map<string, Kept>()
  readonly #keysOf = new Map<string, Set<string>>()
  #bytes = 0

  constructor(ttlMs: number, maxBytes: number = MAX_BYTES) {
    this.#ttlMs = ttlMs
    this.#maxBytes = maxBytes
  }

  get isEmpty(): boolean {
    return this.#kept.size === 0
  }

  /** Bytes in use. */
  get bytes(): number {
    return this.#bytes
  }

  find(key: string): Around | undefined {
    const kept = this.#kept.get(key)
    if (kept === undefined) return undefined
    this.#kept.delete(key)
    if (kept.expiresAtMs <= performance.now()) {
      this.#forget(key, kept)
      return undefined
    }
    this.#kept.set(key, kept)
    return kept.around
  }

  /** What is longer than a quarter of the whole is not kept. */
  keep(scope: string, key: string, around: Around): void {
    this.#remove(key)
    const bytes =
      around.before.length + around.after.length + 2 * (key.length + scope.length) + OVERHEAD_BYTES
    if (bytes > this.#maxBytes / 4) return
    this.#kept.set(key, { around, scope, bytes, expiresAtMs: performance.now() + this.#ttlMs })
    this.#bytes += bytes
    const keys = this.#keysOf.get(scope)
    if (keys === undefined) this.#keysOf.set(scope, new Set([key]))
    else keys.add(key)
    for (const oldest of this.#kept.keys()) {
      if (this.#bytes <= this.#maxBytes) break
      this.#remove(oldest)
    }
  }

  /** Answers whether there was anything. */
  drop(scope: string): boolean {
    const keys = this.#keysOf.get(scope)
    if (keys === undefined) return false
    for (const key of keys) this.#remove(key)
    return true
  }

  /** Drops every scope that begins so. Answers whether there was anything. */
  dropAll(prefix: string): boolean {
    const scopes = [...this.#keysOf.keys()].filter((scope) => scope.startsWith(prefix))
    for (const scope of scopes) this.drop(scope)
    return scopes.length > 0
  }

  #remove(key: string): void {
    const kept = this.#kept.get(key)
    if (kept === undefined) return
    this.#kept.delete(key)
    this.#forget(key, kept)
  }

  #forget(key: string, { scope, bytes }: Kept): void {
    this.#bytes -= bytes
    const keys = this.#keysOf.get(scope)
    keys?.delete(key)
    if (keys?.size === 0) this.#keysOf.delete(scope)
  }
}
