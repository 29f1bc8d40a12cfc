/** Leases of standalone streams, and what is kept for a client without one, on Redis. */
import type { SessionKey } from '../records.ts'
import type { StreamClaim, StreamLease, StreamRelease } from '../store.ts'
import { listOf, numberOf, outcomeOf, textOf } from './answers.ts'
import { optional } from './context.ts'
import type { RedisContext } from './context.ts'
import { keyOf, nameOf } from './keys.ts'
import { readmit } from './readmission.ts'
import {
  ABANDONED_STREAMS,
  CLAIM_STREAM,
  FORGET_STREAM,
  KEEP_EVENTS,
  LIFT_STREAM,
  RAISE_EPOCH,
  RELEASE_STREAM,
  RENEW_STREAMS,
  TAKE_EVENTS,
} from './stream-scripts.ts'

/** Leases in one command: bounds how long it holds others up. */
const RENEW_BATCH = 500

export async function claimStream(
  ctx: RedisContext,
  key: SessionKey,
  holder: string,
  expectedEpoch: number | null,
): Promise<StreamClaim> {
  let answer = await tryClaim(ctx, key, holder, expectedEpoch)
  if (outcomeOf(answer) === 'session_gone') {
    await readmit(ctx, [key])
    answer = await tryClaim(ctx, key, holder, expectedEpoch)
  }
  const outcome = outcomeOf(answer)
  if (outcome === 'session_gone' || outcome === 'epoch_passed') {
    return { ok: false, reason: outcome }
  }
  const epoch = await raiseEpoch(ctx, key, numberOf(answer[1]))
  if (epoch === undefined) return { ok: false, reason: 'session_gone' }
  const before = textOf(answer[2])
  return { ok: true, epoch, previousHolder: before === '' ? null : before }
}

export async function renewStreams(
  ctx: RedisContext,
  holder: string,
  leases: readonly StreamLease[],
): Promise<readonly SessionKey[]> {
  const batches: Promise<readonly SessionKey[]>[] = []
  for (let start = 0; start < leases.length; start += RENEW_BATCH) {
    batches.push(renew(ctx, holder, leases.slice(start, start + RENEW_BATCH)))
  }
  return (await Promise.all(batches)).flat()
}

export async function releaseStream(
  ctx: RedisContext,
  key: SessionKey,
  epoch: number,
  how: StreamRelease,
): Promise<void> {
  await ctx.onAll(RELEASE_STREAM, nameOf(key), epoch, how, ...ctx.offer(key))
}

export async function abandonedStreams(
  ctx: RedisContext,
  lostHolders: readonly string[],
  limit: number,
): Promise<readonly StreamLease[]> {
  const answer = listOf(await ctx.onAll(ABANDONED_STREAMS, limit, ...lostHolders))
  const leases: StreamLease[] = []
  for (let i = 0; i + 1 < answer.length; i += 2) {
    const key = keyOf(textOf(answer[i]))
    if (key !== undefined) leases.push({ key, epoch: numberOf(answer[i + 1]) })
  }
  return leases
}

export async function keepEvents(
  ctx: RedisContext,
  key: SessionKey,
  epoch: number,
  events: readonly string[],
): Promise<boolean> {
  const invalidation = ctx.invalidation(key, 'others')
  return (await ctx.onSession(KEEP_EVENTS, key, epoch, ...invalidation, ...events)) === 1
}

export async function takeEvents(
  ctx: RedisContext,
  key: SessionKey,
  epoch: number,
): Promise<readonly string[]> {
  return listOf(await ctx.onSession(TAKE_EVENTS, key, epoch)).map(textOf)
}

/** Makes the epoch of a lease known to its session; answers it, or the one that took its place, or undefined when the session is gone. */
async function raiseEpoch(
  ctx: RedisContext,
  key: SessionKey,
  claimed: number,
): Promise<number | undefined> {
  for (let epoch = claimed; ;) {
    const newest = numberOf(await ctx.onSession(RAISE_EPOCH, key, epoch))
    if (newest === epoch) return epoch
    if (newest === 0) {
      await ctx.onAll(FORGET_STREAM, nameOf(key), epoch)
      return undefined
    }
    const lifted = numberOf(await ctx.onAll(LIFT_STREAM, nameOf(key), epoch, newest))
    // Somebody has claimed it since: what is asked with the old epoch will say so.
    if (lifted === 0) return epoch
    epoch = lifted
  }
}

async function tryClaim(
  ctx: RedisContext,
  key: SessionKey,
  holder: string,
  expectedEpoch: number | null,
): Promise<readonly unknown[]> {
  const args = [nameOf(key), holder, optional(expectedEpoch), ctx.policy.streamLeaseMs]
  return listOf(await ctx.onAll(CLAIM_STREAM, ...args, ...ctx.invalidation(key, 'others')))
}

async function renew(
  ctx: RedisContext,
  holder: string,
  leases: readonly StreamLease[],
): Promise<readonly SessionKey[]> {
  const pairs = leases.flatMap(({ key, epoch }) => [nameOf(key), epoch])
  const lost = await ctx.onAll(RENEW_STREAMS, holder, ctx.policy.streamLeaseMs, ...pairs)
  return listOf(lost).flatMap((index) => leases[numberOf(index)]?.key ?? [])
}
