/**
 * The sessions of this worker. The store is the truth; a `Session` here is a copy that is used only while it is provably fresh: every other party's
 * change is pushed, idle time is judged on each use, and where the store is shared with other replicas a copy counts for no longer than a lease
 * after the store last confirmed it. The notes of use, which go out each second anyway, bring the confirmations back: what is in use waits for none.
 */
import { AdapterError } from '../../shared/errors.ts'
import { parseSessionId } from '../../shared/ids.ts'
import { ANONYMOUS } from '../../shared/principals.ts'
import type { SessionOwners } from '../../shared/principals.ts'
import type { JsonObject, SessionKey, SessionRecord } from '../../shared/state/records.ts'
import type { SessionView, StateStore } from '../../shared/state/store.ts'
import { Session } from './session.ts'

/** A copy that nobody used for this long is dropped, in milliseconds: memory holds active sessions only. */
const FORGET_AFTER_MS = 60_000
/** Longest time between a use and its note in the store, in milliseconds. */
const TOUCH_INTERVAL_MS = 1_000

/** A session that is being read from the store. */
interface Loading {
  readonly session: Promise<Session>
  /** Whether somebody changed it since: what was read may be from before. */
  wasChanged: boolean
}

/** How a registry judges its copies. */
export interface RegistryPolicy {
  /** `sessions.idle_ttl_seconds`, in milliseconds. */
  readonly idleTtlMs: number | null
  /** How long a copy may be used after the store confirmed it; null where no other process changes the store. */
  readonly copyLeaseMs: number | null
  /** Says whose a session is. */
  readonly owners: SessionOwners
}

/** A shared store's copies count for this long, in milliseconds: a few notes of use may be lost on the way. */
export const SHARED_COPY_LEASE_MS = 3_000

/** Readings of one session before its changes are taken for endless. */
const MAX_READINGS = 5

/** See the file comment. */
export class SessionRegistry {
  readonly #store: StateStore
  readonly #idleTtlMs: number | null
  readonly #copyLeaseMs: number | null
  readonly #owners: SessionOwners
  readonly #sessions = new Map<string, Session>()
  /** Sessions that are being read, by name and by who asked. */
  readonly #loading = new Map<string, Map<string, Loading>>()
  readonly #used = new Set<Session>()
  readonly #timer: NodeJS.Timeout
  #lastForgetAtMs = 0

  constructor(store: StateStore, { idleTtlMs, copyLeaseMs, owners }: RegistryPolicy) {
    this.#store = store
    this.#owners = owners
    this.#idleTtlMs = idleTtlMs
    this.#copyLeaseMs = copyLeaseMs
    store.onInvalidate((key) => this.#invalidate(key))
    store.onAnnounced((key, message) => this.#deliver(key, message))
    const intervalMs = Math.max(50, Math.min(TOUCH_INTERVAL_MS, (idleTtlMs ?? Infinity) / 4))
    this.#timer = setInterval(() => this.#tick(), intervalMs)
    this.#timer.unref()
  }

  /** The session of `principal` when a fresh copy is at hand, touched. The common case, without a wait. */
  peek(serverId: string, sessionId: string, principal: string): Session | undefined {
    const session = this.#sessions.get(nameOf(serverId, sessionId))
    // Somebody else's is not at hand: it takes a reading to tell, as with one that does not exist.
    if (session === undefined || session.principal !== principal) return undefined
    if (session.isStale || !this.#isConfirmed(session)) return undefined
    const nowMs = Date.now()
    if (
      this.#idleTtlMs !== null &&
      !session.isBusy &&
      nowMs - session.lastUsedAtMs > this.#idleTtlMs
    ) {
      this.#drop(session)
      return undefined
    }
    this.#touch(session, nowMs)
    return session
  }

  /**
   * The session of `principal`, read from the store and revived if need be. Throws ADAPTER_SESSION_LIMIT, or ADAPTER_SESSION_UNKNOWN, which is all
   * that is told of a session of somebody else: it is not revived either, nor does it count as used.
   */
  find(serverId: string, sessionId: string, principal: string): Promise<Session> {
    const known = this.peek(serverId, sessionId, principal)
    if (known !== undefined) return Promise.resolve(known)
    const name = nameOf(serverId, sessionId)
    // Without a wait before this: two loads would make two sessions out of one. Only the owner's makes one.
    const loading = this.#loading.get(name) ?? new Map<string, Loading>()
    const underWay = loading.get(principal)
    if (underWay !== undefined) return underWay.session
    const id = parseSessionId(sessionId)
    if (id === undefined) return Promise.reject(unknownSession())
    // Begins after it is in the map, where changes that arrive meanwhile are noted.
    const session = Promise.resolve()
      .then(() => this.#load({ serverId, sessionId: id }, principal))
      .finally(() => {
        loading.delete(principal)
        if (loading.size === 0) this.#loading.delete(name)
      })
    loading.set(principal, { session, wasChanged: false })
    this.#loading.set(name, loading)
    return session
  }

  /** Stores a new session and takes it in. Throws ADAPTER_SESSION_LIMIT. */
  async open(record: SessionRecord): Promise<Session> {
    const askedAtMs = performance.now()
    if ((await this.#store.openSession(record)) === 'at_capacity') throw sessionLimit()
    return this.#adopt(record, record.principal ?? ANONYMOUS, askedAtMs)
  }

  /** Replaces the record after the upstream session `lostId` was initialised again; false when somebody else did so first. */
  async replaceUpstream(
    session: Session,
    next: SessionRecord,
    lostId: string | null,
  ): Promise<boolean> {
    const replaced = await this.#store.replaceUpstreamSession(next, lostId)
    if (replaced) {
      session.record = next
      session.confirmedAtMs = performance.now()
    } else this.#forget(session)
    return replaced
  }

  /** Takes or gives back the task of initialising a lost upstream session again; of all replicas one has it. See `StateStore`. */
  claimReinitialisation(
    session: Session,
    holder: string,
    leaseMs: number,
  ): Promise<'claimed' | 'busy' | 'done' | 'session_gone'> {
    const { key, record } = session
    return this.#store.claimReinitialisation(key, holder, record.upstreamSessionId, leaseMs)
  }

  /** Gives the task back. Never rejects: the lease ends it too. */
  async endReinitialisation(session: Session, holder: string): Promise<void> {
    await this.#store.endReinitialisation(session.key, holder).catch(() => undefined)
  }

  /** Reads a session again, into the same object while something runs in it. Throws as `find` does. */
  refresh(session: Session): Promise<Session> {
    session.isStale = true
    return this.find(session.key.serverId, session.key.sessionId, session.principal)
  }

  /** Ends a session in the store and here. */
  async close(session: Session): Promise<void> {
    this.#drop(session)
    await this.#store.closeSession(session.key)
  }

  /** Trusts no copy any more: the connection that brings other parties' changes is broken. What runs goes on with the record that it has. */
  forgetAll(): void {
    for (const readings of this.#loading.values())
      for (const loading of readings.values()) loading.wasChanged = true
    for (const session of this.#sessions.values()) this.#forget(session)
  }

  /** Sessions with something under way: never idle. */
  busyKeys(): SessionKey[] {
    return [...this.#sessions.values()]
      .filter((session) => session.isBusy)
      .map((session) => session.key)
  }

  /** The same with their leases of calls, for the store to keep. */
  busyLeases(): { key: SessionKey; callLeases: readonly string[] }[] {
    return [...this.#sessions.values()]
      .filter((session) => session.isBusy)
      .map(({ key, places }) => ({
        key,
        callLeases: places?.lease === undefined ? [] : [places.lease],
      }))
  }

  /** Notes the last uses and stops the clock. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#writeTouches()
  }

  async #load(key: SessionKey, principal: string): Promise<Session> {
    const { view, askedAtMs } = await this.#read(key, principal)
    if (view === undefined || view.terminalReason !== null) {
      this.#dropNamed(key)
      throw unknownSession()
    }
    // Before anything is changed, also of the copy that its owner works with.
    if (this.#owners.ownerOf(view.record) !== principal) throw unknownSession()
    if (view.state === 'tombstoned') {
      const revived = await this.#store.reviveSession(key)
      if (revived === 'at_capacity') throw sessionLimit()
      if (revived === 'gone') {
        this.#dropNamed(key)
        throw unknownSession()
      }
    }
    const known = this.#sessions.get(nameOf(key.serverId, key.sessionId))
    if (known === undefined) return this.#adopt(view.record, principal, askedAtMs, view.drift)
    // What runs and what is counted hangs on this object, so it stays the only one.
    if (known.record.upstreamSessionId !== view.record.upstreamSessionId)
      known.hasNewUpstream = true
    known.record = view.record
    known.drift = view.drift
    known.isStale = false
    known.confirmedAtMs = askedAtMs
    this.#touch(known, Date.now())
    return known
  }

  /** Reads a session, again when it was changed while the answer was under way: that may be from before the change. */
  async #read(
    key: SessionKey,
    principal: string,
  ): Promise<{ view: SessionView | undefined; askedAtMs: number }> {
    for (let reading = 1; ; reading++) {
      const loading = this.#loading.get(nameOf(key.serverId, key.sessionId))?.get(principal)
      if (loading !== undefined) loading.wasChanged = false
      const askedAtMs = performance.now()
      const view = await this.#store.readSession(key)
      if (loading?.wasChanged !== true || reading === MAX_READINGS) return { view, askedAtMs }
    }
  }

  #isConfirmed(session: Session): boolean {
    return (
      this.#copyLeaseMs === null || performance.now() - session.confirmedAtMs <= this.#copyLeaseMs
    )
  }

  #adopt(
    record: SessionRecord,
    principal: string,
    confirmedAtMs: number,
    drift: string | null = null,
  ): Session {
    const session = new Session(record, principal, Date.now(), confirmedAtMs)
    session.drift = drift
    this.#sessions.set(nameOf(record.serverId, record.sessionId), session)
    this.#used.add(session)
    return session
  }

  #touch(session: Session, nowMs: number): void {
    session.lastUsedAtMs = nowMs
    this.#used.add(session)
  }

  #invalidate(key: SessionKey): void {
    const name = nameOf(key.serverId, key.sessionId)
    for (const loading of this.#loading.get(name)?.values() ?? []) loading.wasChanged = true
    const session = this.#sessions.get(name)
    if (session === undefined) return
    // What somebody else waits for may be places that are of no use here.
    session.places?.giveBack()
    this.#forget(session)
  }

  /** Passes on what another replica has to tell the client of a session, when its stream is here. */
  #deliver(key: SessionKey, message: JsonObject): void {
    this.#sessions.get(nameOf(key.serverId, key.sessionId))?.notify(message)
  }

  /** No longer trusts a copy. One with something under way stays: a second `Session` would count from zero. */
  #forget(session: Session): void {
    if (session.isBusy) session.isStale = true
    else this.#drop(session)
  }

  #dropNamed(key: SessionKey): void {
    const session = this.#sessions.get(nameOf(key.serverId, key.sessionId))
    if (session !== undefined) this.#drop(session)
  }

  #drop(session: Session): void {
    const name = nameOf(session.key.serverId, session.key.sessionId)
    if (this.#sessions.get(name) === session) this.#sessions.delete(name)
    this.#used.delete(session)
    session.end()
  }

  #tick(): void {
    const nowMs = Date.now()
    for (const session of this.#sessions.values()) {
      session.places?.rest()
      if (session.isBusy) this.#touch(session, nowMs)
      else if (session.isStale) this.#drop(session)
    }
    void this.#writeTouches().catch(() => {
      // The store's own failure shows in its next real operation; a lost touch only ages a session by a second.
    })
    if (nowMs - this.#lastForgetAtMs < FORGET_AFTER_MS / 4) return
    this.#lastForgetAtMs = nowMs
    for (const session of this.#sessions.values()) {
      if (
        !session.isBusy &&
        !session.hasSuspended &&
        nowMs - session.lastUsedAtMs > FORGET_AFTER_MS
      )
        this.#drop(session)
    }
  }

  async #writeTouches(): Promise<void> {
    if (this.#used.size === 0) return
    const used = [...this.#used]
    this.#used.clear()
    const askedAtMs = performance.now()
    const answers = await this.#store.touchSessions(used.map((session) => session.key))
    for (const [index, session] of used.entries()) this.#confirm(session, answers[index], askedAtMs)
  }

  /** Takes note of what the store said of a copy when its use was noted. */
  #confirm(session: Session, upstreamSessionId: string | null | undefined, atMs: number): void {
    // Re-initialised by this worker since then: the answer is about the record before.
    if (session.confirmedAtMs > atMs || session.reinitialising !== undefined) return
    if (upstreamSessionId !== session.record.upstreamSessionId) this.#forget(session)
    else if (!session.isStale) session.confirmedAtMs = atMs
  }
}

/** The error for a session that does not exist for this caller, whatever the reason. MCP clients start over on its 404. */
export function unknownSession(): AdapterError {
  return new AdapterError('ADAPTER_SESSION_UNKNOWN', 'session not found; initialize a new one')
}

function sessionLimit(): AdapterError {
  return new AdapterError(
    'ADAPTER_SESSION_LIMIT',
    'sessions.max_active sessions are open already; try again later',
  )
}

function nameOf(serverId: string, sessionId: string): string {
  return `${serverId}\n${sessionId}`
}
