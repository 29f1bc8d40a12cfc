/** Leases of calls on Redis. */
import type { SessionKey } from '../records.ts'
import type { CallsEntered, StateStore } from '../store.ts'
import { ENTER_CALLS, KEEP, LEAVE_CALLS } from './call-scripts.ts'
import { optional } from './context.ts'
import type { RedisContext } from './context.ts'
import { nameOf } from './keys.ts'
import { readmit } from './readmission.ts'
import { noteUse } from './sessions.ts'

export async function enterCalls(
  ctx: RedisContext,
  key: SessionKey,
  leaseId: string,
  count: number,
  spare: number,
): Promise<CallsEntered> {
  for (const places of [count, spare]) {
    if (!Number.isSafeInteger(places) || places < 0) {
      throw new RangeError(`cannot enter ${places} calls: it must be a whole number, not negative`)
    }
  }
  const { maxInFlightPerSession, callLeaseMs } = ctx.policy
  const most = optional(maxInFlightPerSession)
  const recall = ctx.invalidation(key, 'others')
  const answer = await ctx.onSession(
    ENTER_CALLS,
    key,
    leaseId,
    count,
    spare,
    most,
    callLeaseMs,
    ...recall,
  )
  if (typeof answer === 'number') return answer
  return answer === 'at_limit' || answer === 'wait' ? answer : 'session_gone'
}

export async function leaveCalls(
  ctx: RedisContext,
  key: SessionKey,
  leaseId: string,
): Promise<void> {
  await ctx.onSession(LEAVE_CALLS, key, leaseId)
}

export async function keepAlive(
  ctx: RedisContext,
  sessions: Parameters<StateStore['keepAlive']>[0],
): Promise<void> {
  const noted = noteUse(
    ctx,
    sessions.map(({ key }) => nameOf(key)),
  )
  const [unknown, ...kept] = await Promise.all([
    noted,
    ...sessions.map(({ key, callLeases }) =>
      ctx.onSession(KEEP, key, ctx.policy.callLeaseMs, ctx.origin, ...callLeases),
    ),
  ])
  const lost = unknown.flatMap((index) => (kept[index] === 1 ? (sessions[index]?.key ?? []) : []))
  await readmit(ctx, lost)
}
