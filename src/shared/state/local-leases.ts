/**
 * Leases of calls and standalone streams, and the maintainer, in a store that one process has for itself. They end with the process, so they are
 * kept in memory: after a restart nobody holds anything, which is what is true then.
 */
import { sessionName as nameOf } from './lease-table.ts'
import type { CallLease } from './lease-table.ts'
import type { SessionKey } from './records.ts'
import { findUsableSession, readRecord } from './session-rows.ts'
import type { StoreContext } from './store-context.ts'
import type { CallsEntered, StreamClaim, StreamLease, StreamRelease } from './store.ts'

/** Events kept for a client without a stream, per session. */
const MAX_KEPT_EVENTS = 256
/** Characters of them. */
const MAX_KEPT_CHARS = 1_048_576

export function enterCalls(
  ctx: StoreContext,
  key: SessionKey,
  leaseId: string,
  count: number,
  spare: number,
): CallsEntered {
  for (const places of [count, spare]) {
    if (!Number.isSafeInteger(places) || places < 0) {
      throw new RangeError(`cannot enter ${places} calls: it must be a whole number, not negative`)
    }
  }
  if (findUsableSession(ctx, key)?.standing !== 'active') return 'session_gone'
  const nowMs = ctx.now()
  const leases = ctx.leases.calls.get(nameOf(key)) ?? new Map<string, CallLease>()
  let taken = 0
  let unused = 0
  for (const [id, lease] of leases) {
    if (lease.expiresAtMs < nowMs) {
      leases.delete(id)
    } else if (id !== leaseId) {
      taken += lease.count
      unused += lease.spare
    }
  }
  const limit = ctx.policy.maxInFlightPerSession
  if (limit !== null && taken + count > limit) {
    if (unused === 0) return 'at_limit'
    ctx.invalidate(key, 'others')
    return 'wait'
  }
  const granted = limit === null || taken + count + spare <= limit / 2 ? spare : 0
  const expiresAtMs = nowMs + ctx.policy.callLeaseMs
  leases.set(leaseId, { count: count + granted, spare: granted, expiresAtMs })
  ctx.leases.calls.set(nameOf(key), leases)
  return count + granted
}

export function leaveCalls(ctx: StoreContext, key: SessionKey, leaseId: string): void {
  const leases = ctx.leases.calls.get(nameOf(key))
  leases?.delete(leaseId)
  if (leases?.size === 0) ctx.leases.calls.delete(nameOf(key))
}

/** Renews those of the named leases that have not ended. */
export function renewCalls(ctx: StoreContext, key: SessionKey, leaseIds: readonly string[]): void {
  const nowMs = ctx.now()
  const leases = ctx.leases.calls.get(nameOf(key))
  for (const id of leaseIds) {
    const lease = leases?.get(id)
    if (lease !== undefined && lease.expiresAtMs >= nowMs) {
      lease.expiresAtMs = nowMs + ctx.policy.callLeaseMs
    }
  }
}

export function claimStream(
  ctx: StoreContext,
  key: SessionKey,
  holder: string,
  expectedEpoch: number | null,
): StreamClaim {
  if (findUsableSession(ctx, key) === undefined) return { ok: false, reason: 'session_gone' }
  const nowMs = ctx.now()
  const stream = ctx.leases.streams.get(nameOf(key))
  const isFree =
    stream === undefined || stream.holder === null || stream.isOffered || stream.expiresAtMs < nowMs
  if (expectedEpoch !== null && ((stream?.epoch ?? 0) !== expectedEpoch || !isFree)) {
    return { ok: false, reason: 'epoch_passed' }
  }
  const epoch = (stream?.epoch ?? 0) + 1
  ctx.leases.streams.set(nameOf(key), {
    key: { serverId: key.serverId, sessionId: key.sessionId },
    epoch,
    holder,
    expiresAtMs: nowMs + ctx.policy.streamLeaseMs,
    isOffered: false,
    events: stream?.events ?? [],
  })
  ctx.invalidate(key, 'others')
  return { ok: true, epoch, previousHolder: stream?.holder ?? null }
}

export function renewStreams(
  ctx: StoreContext,
  holder: string,
  leases: readonly StreamLease[],
): readonly SessionKey[] {
  const expiresAtMs = ctx.now() + ctx.policy.streamLeaseMs
  const lost: SessionKey[] = []
  for (const { key, epoch } of leases) {
    const stream = ctx.leases.streams.get(nameOf(key))
    if (stream?.epoch === epoch && stream.holder === holder) stream.expiresAtMs = expiresAtMs
    else lost.push(key)
  }
  return lost
}

export function releaseStream(
  ctx: StoreContext,
  key: SessionKey,
  epoch: number,
  how: StreamRelease,
): void {
  const stream = ctx.leases.streams.get(nameOf(key))
  if (stream?.epoch !== epoch) return
  stream.isOffered = how === 'hand_over'
  if (how === 'closed') stream.holder = null
}

export function abandonedStreams(
  ctx: StoreContext,
  lostHolders: readonly string[],
  limit: number,
): readonly StreamLease[] {
  const nowMs = ctx.now()
  const found: StreamLease[] = []
  for (const stream of ctx.leases.streams.values()) {
    if (found.length >= limit) break
    const { key, epoch, holder } = stream
    if (holder === null) continue
    if (lostHolders.some((lost) => holder.startsWith(lost))) stream.expiresAtMs = 0
    if (stream.isOffered || stream.expiresAtMs < nowMs) found.push({ key, epoch })
  }
  return found
}

export function keepEvents(
  ctx: StoreContext,
  key: SessionKey,
  epoch: number,
  events: readonly string[],
): boolean {
  const stream = ctx.leases.streams.get(nameOf(key))
  const isNewest = stream?.epoch === epoch
  const isOfPredecessor = stream !== undefined && stream.epoch === epoch + 1
  if (!isNewest && !isOfPredecessor) return false
  stream.events.push(...events)
  let chars = stream.events.reduce((sum, event) => sum + event.length, 0)
  while (stream.events.length > MAX_KEPT_EVENTS || chars > MAX_KEPT_CHARS) {
    chars -= stream.events.shift()?.length ?? 0
  }
  if (isOfPredecessor && events.length > 0) ctx.invalidate(key, 'others')
  return isNewest
}

export function takeEvents(ctx: StoreContext, key: SessionKey, epoch: number): readonly string[] {
  const stream = ctx.leases.streams.get(nameOf(key))
  if (stream?.epoch !== epoch) return []
  const { events } = stream
  stream.events = []
  return events
}

/** Streams of this store's sessions are all in the process that asks. */
export function announce(): void {}

export function claimReinitialisation(
  ctx: StoreContext,
  key: SessionKey,
  holder: string,
  lostUpstreamSessionId: string | null,
  leaseMs: number,
): 'claimed' | 'busy' | 'done' | 'session_gone' {
  const session = findUsableSession(ctx, key)
  const record = session && readRecord(ctx, session)
  if (record === undefined) return 'session_gone'
  if (record.upstreamSessionId !== lostUpstreamSessionId) return 'done'
  const nowMs = ctx.now()
  const task = ctx.leases.reinitialisations.get(nameOf(key))
  if (task !== undefined && task.holder !== holder && task.expiresAtMs >= nowMs) return 'busy'
  ctx.leases.reinitialisations.set(nameOf(key), { holder, expiresAtMs: nowMs + leaseMs })
  return 'claimed'
}

export function endReinitialisation(ctx: StoreContext, key: SessionKey, holder: string): void {
  const task = ctx.leases.reinitialisations.get(nameOf(key))
  if (task?.holder === holder) ctx.leases.reinitialisations.delete(nameOf(key))
}

export function electMaintainer(ctx: StoreContext, holder: string, leaseMs: number): number | null {
  const nowMs = ctx.now()
  const { maintainer } = ctx.leases
  const isFree = maintainer === undefined || maintainer.expiresAtMs < nowMs
  if (!isFree && maintainer.holder !== holder) return null
  if (isFree) ctx.leases.fence++
  ctx.leases.maintainer = { holder, expiresAtMs: nowMs + leaseMs }
  return ctx.leases.fence
}

export function resignMaintainer(ctx: StoreContext, holder: string): void {
  if (ctx.leases.maintainer?.holder === holder) ctx.leases.maintainer = undefined
}

/** Whether a fencing token is the newest one; null is not fenced. */
export function isFenced(ctx: StoreContext, fence: number | null): boolean {
  return fence !== null && fence !== ctx.leases.fence
}
