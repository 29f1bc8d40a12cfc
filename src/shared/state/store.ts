/**
 * StateStore: what the adapter remembers about sessions and their files, in the product's own verbs.
 *
 * Every method is one atomic operation: either all of its effects are there or none is, also after a crash. Limits and time-to-live values come
 * from the `StorePolicy` that the store was opened with; time is the store's own clock, so callers never pass one. Methods reject only when the
 * store itself fails (`StoreUnavailableError`); every decided outcome is a value.
 */
import type { ArtifactId, UploadId } from '../ids.ts'
import type {
  ArtifactRecord,
  FileRef,
  JsonObject,
  NewArtifact,
  SessionKey,
  SessionRecord,
  UploadRecord,
} from './records.ts'

/** A bucket that starts full, is emptied by requests and filled again at a steady pace. */
export interface RequestRate {
  readonly perMinute: number
  /** How many it holds. */
  readonly burst: number
}

/** What a bucket gave: some or all of what was asked for, or nothing and when to ask again. */
export interface RequestsTaken {
  readonly granted: number
  /** Milliseconds until there is one; 0 when something was granted. */
  readonly retryAfterMs: number
}

/** Limits and lifetimes that a store enforces. `null` means no limit. Sizes in bytes, times in milliseconds. */
export interface StorePolicy {
  readonly maxActiveSessions: number | null
  readonly idleTtlMs: number | null
  readonly allowRevival: boolean
  readonly tombstoneTtlMs: number
  readonly maxSessionBytes: number | null
  readonly maxTotalBytes: number | null
  readonly maxArtifactsPerSession: number | null
  /** Since last use. */
  readonly uploadTtlMs: number | null
  /** Since last use. */
  readonly artifactTtlMs: number | null
  /** A pending artifact older than this whose call is not reported alive is dropped by `sweep`. */
  readonly pendingGraceMs: number
  readonly evictionPolicy: 'lru_uploads_then_artifacts' | 'lru_artifacts_then_uploads'
  /** JSON-RPC requests under way in one session, over all replicas. */
  readonly maxInFlightPerSession: number | null
  /** How many requests each principal may make; null for no limit. */
  readonly requestRate: RequestRate | null
  /** A lease of calls that nobody renewed for this long ends: its process is gone. */
  readonly callLeaseMs: number
  /** A lease of a standalone stream that nobody renewed for this long may be taken by anybody. */
  readonly streamLeaseMs: number
}

/** A session as the store has it now. */
export interface SessionView {
  readonly record: SessionRecord
  readonly state: 'active' | 'tombstoned'
  /** Unix milliseconds of the last touch. */
  readonly lastAccessedAtMs: number
  /** Set on a session that was ended for a reason that revival must not undo. */
  readonly terminalReason: string | null
  /** What `noteDrift` noted last. */
  readonly drift: string | null
}

/** Outcome of asking for room. `evicted` are files whose records are gone already: the caller removes them from disk. */
export type Reserved =
  | { readonly ok: true; readonly reservationId: string; readonly evicted: readonly FileRef[] }
  | { readonly ok: false; readonly reason: 'session_gone' | 'session_quota' | 'global_quota' }

/** Outcome of making uploads visible. */
export type UploadsCommitted =
  | { readonly ok: true }
  | { readonly ok: false; readonly reason: 'session_gone' | 'reservation_gone' | 'nonce_used' }

/** Outcome of looking uploads up for use. */
export type UploadsResolved =
  | { readonly ok: true; readonly uploads: readonly UploadRecord[] }
  | {
      readonly ok: false
      readonly uploadId: UploadId
      readonly reason: 'unknown' | 'expired' | 'session_gone'
    }

/** Outcome of making an artifact visible. */
export type ArtifactCommitted =
  | { readonly ok: true; readonly artifact: ArtifactRecord; readonly evicted: readonly FileRef[] }
  | {
      readonly ok: false
      readonly reason: 'unknown' | 'session_gone' | 'session_quota' | 'global_quota'
    }

/** Who holds the upstream's standalone stream of a session. */
export interface StreamLease {
  readonly key: SessionKey
  /** Only grows, for as long as the session lives: what was allowed under an older one is refused. */
  readonly epoch: number
}

/**
 * Outcome of asking for places for calls: how many the lease has now; or it is as it was, because the limit is reached (`at_limit`), because others
 * have places that they do not use and were asked to give back (`wait`: ask again in a moment), or because the session is not active.
 */
export type CallsEntered = number | 'at_limit' | 'wait' | 'session_gone'

/** Outcome of asking for a stream. `previousHolder` is null when nobody held it. */
export type StreamClaim =
  | { readonly ok: true; readonly epoch: number; readonly previousHolder: string | null }
  | { readonly ok: false; readonly reason: 'session_gone' | 'epoch_passed' }

/** How a holder gives a stream up: for good, or for another replica to take at once. */
export type StreamRelease = 'closed' | 'hand_over'

/** What one repair of counters corrected. */
export interface CounterRepair {
  /** Slots of active sessions that were counted without a session, or the reverse. */
  readonly sessions: number
  /** Bytes that the total was off by; positive when it had been too high. */
  readonly bytes: number
}

/** What one `sweep` did. */
export interface SweepReport {
  readonly expiredSessions: number
  readonly tombstonedSessions: number
  readonly removedTombstones: number
  readonly removedUploads: number
  readonly removedArtifacts: number
  /** Items whose records are gone: remove them from disk. */
  readonly files: readonly FileRef[]
  /** Sessions whose records are gone: end their upstream session and remove their directory. */
  readonly sessions: readonly SessionRecord[]
  /** True when the batch limit was reached and there is more to do now. */
  readonly more: boolean
}

/** What the store knows of a session's items. */
export interface ReferencedItems {
  readonly uploads: readonly string[]
  /** Pending ones included. */
  readonly artifacts: readonly string[]
  /** Whether the session has a reservation: without one, nothing without a record can get one any more. */
  readonly isReserving: boolean
}

/** Totals, for health and metrics. Bytes count committed files and open reservations apart. */
export interface Inventory {
  readonly sessions: number
  readonly tombstones: number
  readonly uploads: number
  readonly artifacts: number
  readonly pendingArtifacts: number
  readonly bytes: number
  readonly reservedBytes: number
}

/** See the file comment for what holds for every method. */
export interface StateStore {
  /** Creates an active session unless `maxActiveSessions` are active already. Ids are unguessable, so a duplicate is an error of the caller. */
  openSession(record: SessionRecord): Promise<'opened' | 'at_capacity'>
  /**
   * Reads a session; undefined when there is none, when a tombstone has expired, or when it can't be revived (`allowRevival` off or a terminal
   * reason). An active session that is idle past `idleTtlMs` is answered as tombstoned, whether or not a sweep has seen it.
   */
  readSession(key: SessionKey): Promise<SessionView | undefined>
  /** Makes a tombstoned session active again (counts against `maxActiveSessions`) and touches it. */
  reviveSession(key: SessionKey): Promise<'active' | 'at_capacity' | 'gone'>
  /**
   * Notes use of sessions at the store's present time. Never revives. Answers, for each key, the upstream session id that the record has now, and
   * undefined when there is no such session or it is not active: a copy that differs must not be trusted any more.
   */
  touchSessions(keys: readonly SessionKey[]): Promise<readonly (string | null | undefined)[]>
  /**
   * Replaces the record of a session when its `upstreamSessionId` is still `expectedUpstreamSessionId`; false when it is not or the session is gone.
   * Used when a lost upstream session was initialised anew, so that two callers can't both replace it.
   */
  replaceUpstreamSession(
    next: SessionRecord,
    expectedUpstreamSessionId: string | null,
  ): Promise<boolean>
  /**
   * Takes the task of initialising the session's upstream session again after the upstream lost it, for at most `leaseMs`: of all that notice the loss
   * one does so. `busy` while somebody else has the task; `done` when the record names another upstream session than `lostUpstreamSessionId` already.
   */
  claimReinitialisation(
    key: SessionKey,
    holder: string,
    lostUpstreamSessionId: string | null,
    leaseMs: number,
  ): Promise<'claimed' | 'busy' | 'done' | 'session_gone'>
  /** Gives the task back, done or not; ignored when somebody else has it. */
  endReinitialisation(key: SessionKey, holder: string): Promise<void>
  /**
   * Pins which tools a session has: what is pinned first counts for as long as the session lives. Answers what counts, or undefined when the session is
   * gone. `tools` is the caller's own text, of at most `MAX_PINNED_CHARS`.
   */
  pinCatalogue(key: SessionKey, tools: string): Promise<string | undefined>
  /**
   * Notes how the tools differ now from what is pinned, in a text of the caller's; null when they do not. Whether that is news: then everyone else is
   * called back by `onInvalidate`. Nothing is news of a session that is gone.
   */
  noteDrift(key: SessionKey, drift: string | null): Promise<boolean>
  /** Removes a session in whatever state with all of its items and reservations; answers its record, or undefined when there was none. */
  closeSession(key: SessionKey): Promise<SessionRecord | undefined>

  /**
   * Sets `bytes` aside for files of this session, evicting least recently used items of the same session when that makes them fit (never when it
   * would not: nothing is evicted then), in the order of `evictionPolicy`. With `reservationId` an earlier reservation grows by `bytes`.
   */
  reserveBytes(key: SessionKey, bytes: number, reservationId?: string): Promise<Reserved>
  /** Gives a reservation back; unknown ones are ignored. */
  releaseBytes(key: SessionKey, reservationId: string): Promise<void>
  /**
   * Makes files that are complete on disk visible as uploads, all or none, converts the reservation into their sizes (the rest is released), and
   * redeems `nonce` (unusable until `nonceExpiresAtMs`) when one is given.
   */
  commitUploads(
    key: SessionKey,
    reservationId: string,
    uploads: readonly UploadRecord[],
    nonce?: { readonly value: string; readonly expiresAtMs: number },
  ): Promise<UploadsCommitted>
  /** Whether a nonce was redeemed already. Only `commitUploads` decides; this saves a client from sending a body for nothing. */
  isNonceUsed(key: SessionKey, nonce: string): Promise<boolean>
  /** Looks uploads up for a tool call and touches them, all or none. An upload past its time-to-live is `expired`, swept or not. */
  resolveUploads(key: SessionKey, ids: readonly UploadId[]): Promise<UploadsResolved>

  /** Creates a pending artifact (no bytes counted yet) unless the session has `maxArtifactsPerSession`, pending ones included. */
  allocateArtifact(
    key: SessionKey,
    artifact: NewArtifact,
  ): Promise<'allocated' | 'at_capacity' | 'session_gone'>
  /** Keeps pending artifacts of running calls from being swept. */
  touchPending(key: SessionKey, ids: readonly ArtifactId[]): Promise<void>
  /**
   * Makes a pending artifact visible with its final name, type and size; its bytes are counted once. Other items of the session may be evicted to
   * make room, never this one. On a refusal the artifact's record is removed.
   */
  commitArtifact(
    key: SessionKey,
    id: ArtifactId,
    final: {
      readonly filename: string
      readonly mimeType: string
      readonly sizeBytes: number
      readonly sha256: string
    },
  ): Promise<ArtifactCommitted>
  /** Removes an artifact's record, pending or committed. */
  dropArtifact(key: SessionKey, id: ArtifactId): Promise<void>
  /** Committed, unexpired artifacts of a session, oldest first. */
  listArtifacts(key: SessionKey): Promise<readonly ArtifactRecord[]>
  /** A committed, unexpired artifact, touched; undefined otherwise. */
  readArtifact(key: SessionKey, id: ArtifactId): Promise<ArtifactRecord | undefined>

  /**
   * Gives a lease of the caller's naming `count` places for requests of a session, in place of what it had, as long as all leases together have no
   * more than `maxInFlightPerSession`. `spare` places more are granted while that leaves half of the limit free: the requests that come next need not
   * ask. When the limit is reached while others have spare places, they are called back by `onInvalidate`: whoever has a lease then gives up what
   * it does not use. A lease ends by `leaveCalls`, or `callLeaseMs` after its last renewal.
   */
  enterCalls(key: SessionKey, leaseId: string, count: number, spare: number): Promise<CallsEntered>
  /** Ends a lease of calls; unknown ones are ignored. */
  leaveCalls(key: SessionKey, leaseId: string): Promise<void>
  /**
   * Takes up to `count` requests out of the bucket of a principal, for good. Over any `T` minutes all that is given to one principal, to whomever, is at
   * most `burst + perMinute * T`. Without a limit everything is granted.
   */
  takeRequests(principal: string, count: number): Promise<RequestsTaken>
  /**
   * What a process does regularly for the sessions that it works for: notes their use, keeps the named leases of calls, and the pending artifacts and
   * reservations that it has begun, from ending (a store of one process: all of the session's). A session that lost its slot is not revived, but what
   * it has is kept.
   */
  keepAlive(
    sessions: readonly { readonly key: SessionKey; readonly callLeases: readonly string[] }[],
  ): Promise<void>

  /**
   * Takes the lease of a session's standalone stream. With `expectedEpoch` null from whoever has it (a client's own GET has arrived); with a number
   * only while the lease has that epoch and its holder is gone, has released it, or has not renewed it in time: of many that try one gets it.
   * Everyone else is called back by `onInvalidate`.
   */
  claimStream(key: SessionKey, holder: string, expectedEpoch: number | null): Promise<StreamClaim>
  /** Renews leases for `streamLeaseMs`; answers the sessions whose lease is not the holder's any more: it must stop using their stream. */
  renewStreams(holder: string, leases: readonly StreamLease[]): Promise<readonly SessionKey[]>
  /** Gives a lease up; ignored with an epoch that has passed. After `hand_over` everyone else is called back by `onStreamOffered`. */
  releaseStream(key: SessionKey, epoch: number, how: StreamRelease): Promise<void>
  /**
   * Leases to take over: handed over, not renewed in time, or of a holder whose name begins with one of `lostHolders`. The leases of those end with
   * this, unless they are renewed after all. At most `limit`.
   */
  abandonedStreams(lostHolders: readonly string[], limit: number): Promise<readonly StreamLease[]>
  /**
   * Keeps events of the upstream's standalone stream (whole JSON-RPC messages) for the client's next stream. False when the epoch has passed: what
   * a holder had received when the next one took its place is kept all the same, as nobody else has it, and the others are called back by
   * `onInvalidate`; what comes later still is not. The oldest are dropped beyond 256 events or 1 MiB a session.
   */
  keepEvents(key: SessionKey, epoch: number, events: readonly string[]): Promise<boolean>
  /** Takes what was kept, oldest first; nothing when the epoch has passed. */
  takeEvents(key: SessionKey, epoch: number): Promise<readonly string[]>

  /**
   * Passes a JSON-RPC notification to whoever has the client's stream of this session: everyone else is called back by
   * `onAnnounced`. Lost when nobody has it, or a connection breaks: for hints only.
   */
  announce(key: SessionKey, message: JsonObject): Promise<void>

  /** Makes `holder` the maintainer for `leaseMs`, or renews that: answers a fencing token that only grows, or null while somebody else is it. */
  electMaintainer(holder: string, leaseMs: number): Promise<number | null>
  /** Ends the holder's time as the maintainer. */
  resignMaintainer(holder: string): Promise<void>
  /**
   * Ends what has expired, at most `limit` sessions and `limit` items a call. `aliveKeys` are sessions with calls in flight: never idle. `fence` is
   * the token from `electMaintainer`: one that has passed changes nothing and is answered `fenced`. Null when the caller excludes others itself.
   */
  sweep(
    limit: number,
    aliveKeys: readonly SessionKey[],
    fence: number | null,
  ): Promise<SweepReport | 'fenced'>
  /** Makes counters agree with the records that they sum up; for the maintainer. */
  repairCounters(fence: number | null): Promise<CounterRepair | 'fenced'>
  /**
   * The ids of all items of a session that a record names (pending included), or undefined when the store does not know the session in any state:
   * what the orphan sweeper must not touch. While a session `isReserving`, an upload may be about to commit items that have no record yet.
   */
  referencedItems(key: SessionKey): Promise<ReferencedItems | undefined>
  /** Back-fills records found on disk (start-up reconciliation): creates the session when unknown, ignores items that have a record. */
  adopt(
    session: SessionRecord,
    uploads: readonly UploadRecord[],
    artifacts: readonly ArtifactRecord[],
  ): Promise<void>
  /**
   * Drops reservations, and pending artifacts, of processes that are gone. Called once at start, before anything is served. A store that other
   * processes use at the same time does nothing here: what theirs left ends with its lease.
   */
  recoverAfterCrash(): Promise<readonly FileRef[]>
  /** Removes everything (`refresh_on_startup`). */
  clear(): Promise<void>
  inventory(): Promise<Inventory>
  /** Calls back for each session that someone else changed or removed; a copy of it must not be trusted any more. */
  onInvalidate(listener: (key: SessionKey) => void): void
  /** Calls back for each session whose standalone stream another replica hands over. */
  onStreamOffered(listener: (key: SessionKey) => void): void
  /** Calls back for each notification that another replica announced. */
  onAnnounced(listener: (key: SessionKey, message: JsonObject) => void): void
  /** Waits for what was asked before, then closes. Idempotent. */
  close(): Promise<void>
}

/** Longest text that `pinCatalogue` takes. */
export const MAX_PINNED_CHARS = 1_048_576

/** The ids that its records are named by. */
export type { ArtifactId, UploadId }
