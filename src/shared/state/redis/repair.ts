/** Makes sums over sessions agree with the sessions, while others go on using them. */
import type { CounterRepair } from '../store.ts'
import { listOf, numberOf, outcomeOf, textOf } from './answers.ts'
import { optional } from './context.ts'
import type { RedisContext } from './context.ts'
import { keyOf } from './keys.ts'
import { knownSessions } from './known-sessions.ts'
import {
  CORRECT_SHARES,
  END_CLAIMS,
  LOOK_AT_SHARES,
  NOW,
  RECOUNT_ALL,
  RECOUNT_SESSION,
} from './repair-scripts.ts'

/** Thrown inside to end a repair whose maintainer is not it any more. */
class Fenced extends Error {}

export async function repairCounters(
  ctx: RedisContext,
  fence: number | null,
): Promise<CounterRepair | 'fenced'> {
  const token = optional(fence)
  const repair = { sessions: 0, bytes: 0 }
  try {
    const begunAt = textOf(await ctx.onAll(NOW))
    for await (const names of knownSessions(ctx)) {
      const [sessions, bytes] = await correct(ctx, token, names)
      repair.sessions += sessions
      repair.bytes += bytes
    }
    // After that, and only what can't have been used since it began, so that what was set aside and then used is counted twice for a moment, not never.
    repair.bytes += numberOf(answered(await ctx.onAll(END_CLAIMS, token, begunAt))[1])
    const recount = answered(await ctx.onAll(RECOUNT_ALL, token))
    repair.sessions += numberOf(recount[1])
    repair.bytes += numberOf(recount[2])
    return repair
  } catch (error) {
    if (error instanceof Fenced) return 'fenced'
    throw error
  }
}

async function correct(
  ctx: RedisContext,
  token: string,
  names: readonly string[],
): Promise<readonly [sessions: number, bytes: number]> {
  const seen = answered(await ctx.onAll(LOOK_AT_SHARES, token, ...names))
  const groups = await Promise.all(
    names.map(async (name, index) => {
      const share = textOf(seen[1 + index * 2])
      const slot = textOf(seen[2 + index * 2])
      const key = keyOf(name)
      const session = key === undefined ? [] : listOf(await ctx.onSession(RECOUNT_SESSION, key))
      return [name, share, slot, textOf(session[1]), textOf(session[2])]
    }),
  )
  const answer = answered(await ctx.onAll(CORRECT_SHARES, token, ...groups.flat()))
  return [numberOf(answer[1]), numberOf(answer[2])]
}

function answered(answer: unknown): readonly unknown[] {
  if (outcomeOf(answer) === 'fenced') throw new Fenced()
  return listOf(answer)
}
