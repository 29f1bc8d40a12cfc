/** The leases that a store for one process keeps in memory. */
import type { SessionKey } from './records.ts'

/** Places of one lease of calls. */
export interface CallLease {
  readonly count: number
  /** Of these, places that were granted beyond need. */
  readonly spare: number
  expiresAtMs: number
}

/** The standalone stream of one session. */
interface HeldStream {
  readonly key: SessionKey
  epoch: number
  holder: string | null
  expiresAtMs: number
  isOffered: boolean
  events: string[]
}

/** What is left in the bucket of a principal, as of a moment. */
interface Bucket {
  readonly level: number
  readonly atMs: number
}

/** What a store holds in memory beside its tables. */
export class LocalLeases {
  readonly calls = new Map<string, Map<string, CallLease>>()
  readonly streams = new Map<string, HeldStream>()
  readonly reinitialisations = new Map<string, { holder: string; expiresAtMs: number }>()
  /** By principal. Those that are full again are as good as none. */
  readonly buckets = new Map<string, Bucket>()
  maintainer: { holder: string; expiresAtMs: number } | undefined
  fence = 0

  /** Forgets what a session had. */
  drop(key: SessionKey): void {
    this.calls.delete(sessionName(key))
    this.streams.delete(sessionName(key))
    this.reinitialisations.delete(sessionName(key))
  }

  /** Takes over a lease that another store gave. */
  restoreStream(
    { serverId, sessionId }: SessionKey,
    { holder, epoch }: { readonly holder: string; readonly epoch: number },
    expiresAtMs: number,
  ): void {
    const key = { serverId, sessionId }
    const held = { key, epoch, holder, expiresAtMs, isOffered: false, events: [] }
    this.streams.set(sessionName(key), held)
  }

  clear(): void {
    this.calls.clear()
    this.reinitialisations.clear()
    this.streams.clear()
  }
}

/** A session as a key of maps. */
export function sessionName(key: SessionKey): string {
  return `${key.serverId}\n${key.sessionId}`
}
