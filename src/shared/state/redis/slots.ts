/** Slots of active sessions: taken before a session becomes active, given back after it has become idle. */
import type { SessionKey } from '../records.ts'
import { listOf, numberOf, outcomeOf, textOf } from './answers.ts'
import { optional } from './context.ts'
import type { RedisContext } from './context.ts'
import { keyOf, nameOf } from './keys.ts'
import { USABLE_MS } from './lua.ts'
import { FREE_SLOTS, TAKE_SLOT, TOMBSTONE_IF_IDLE } from './session-scripts.ts'

/** A slot that is taken says by its time whether it is still the same; it must be used before it ends. */
export type Slot =
  | { readonly kind: 'taken'; readonly time: string; readonly endsAtMs: number }
  /** `own` is the time of the slot that the session has already; empty when it has none. */
  | { readonly kind: 'full'; readonly own: string }
  | { readonly kind: 'known' }
  | { readonly kind: 'without' }

/** What a slot is taken for, see `TAKE_SLOT`. */
type Purpose = 'open' | 'revive' | 'adopt' | 'adopt-anyway'

/** A session that holds a slot though it is not active, and when it took it. */
interface Holder {
  readonly name: string
  readonly time: string
}

/** Rounds of making idle sessions tombstones: times of use in the index can be older than the session's own, so the first ones may not be idle. */
const MAX_ROUNDS = 8

/** Takes a slot for a session. Idle sessions hold none: they become tombstones here when nobody swept them yet. */
export async function takeSlot(
  ctx: RedisContext,
  key: SessionKey,
  purpose: Purpose,
): Promise<Slot> {
  for (let round = 1; ; round++) {
    const { slot, seemIdle } = await tryTake(ctx, key, purpose)
    const others = seemIdle.filter(({ name }) => name !== nameOf(key))
    if (slot.kind !== 'full' || others.length === 0 || round === MAX_ROUNDS) return slot
    await freeIdle(ctx, others)
  }
}

/** Gives a slot back that is not used after all, or of a session that became a tombstone, unless it was renewed meanwhile. */
export async function freeSlot(
  ctx: RedisContext,
  key: SessionKey,
  time: string,
  endsAtMs: number,
): Promise<void> {
  await ctx.onAll(FREE_SLOTS, nameOf(key), time, 'tombstoned', Math.floor(endsAtMs))
}

async function tryTake(
  ctx: RedisContext,
  key: SessionKey,
  purpose: Purpose,
): Promise<{ slot: Slot; seemIdle: readonly Holder[] }> {
  const { maxActiveSessions, idleTtlMs } = ctx.policy
  const args = [optional(maxActiveSessions), optional(idleTtlMs), nameOf(key), purpose]
  const answer = listOf(await ctx.onAll(TAKE_SLOT, ...args))
  const kind = outcomeOf(answer)
  if (kind === 'taken') {
    const time = textOf(answer[1])
    return { slot: { kind, time, endsAtMs: Number(time) + USABLE_MS }, seemIdle: [] }
  }
  if (kind !== 'full') return { slot: { kind: kind === 'known' ? kind : 'without' }, seemIdle: [] }
  const seemIdle: Holder[] = []
  for (let i = 2; i + 1 < answer.length; i += 2) {
    seemIdle.push({ name: textOf(answer[i]), time: textOf(answer[i + 1]) })
  }
  return { slot: { kind, own: textOf(answer[1]) }, seemIdle }
}

async function freeIdle(ctx: RedisContext, holders: readonly Holder[]): Promise<void> {
  const looks = await Promise.all(
    holders.map(async ({ name, time }) => {
      const key = keyOf(name)
      if (key === undefined) return [name, time, 'none', '0']
      const outcome = await ctx.onSession(
        TOMBSTONE_IF_IDLE,
        key,
        ...ctx.invalidation(key, 'everyone'),
      )
      return [name, time, outcomeOf(outcome), numberOf(listOf(outcome)[1])]
    }),
  )
  await ctx.onAll(FREE_SLOTS, ...looks.flat())
}
