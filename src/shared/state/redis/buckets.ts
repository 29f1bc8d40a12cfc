/** The buckets of principals on Redis, one key each. */
import { createHash } from 'node:crypto'

import { checkCount } from '../local-buckets.ts'
import type { RequestsTaken } from '../store.ts'
import type { RedisContext } from './context.ts'
import { CLOCK } from './lua.ts'
import { script } from './script.ts'

/** A key outlives the moment at which its bucket is full, and so as good as none, by this, in milliseconds. */
const MARGIN_MS = 1_000

/** Arguments: how many, per minute, burst. Answers how many are given and, when that is none, the milliseconds to wait. */
const TAKE = script(
  CLOCK,
  `
local count, rate, burst = tonumber(ARGV[2]), tonumber(ARGV[3]) / 60000, tonumber(ARGV[4])
local f = redis.call('HMGET', KEYS[1], 'level', 'at')
local at = math.max(now, tonumber(f[2]) or 0)
local level = burst
if f[1] then
  level = math.min(burst, tonumber(f[1]) + (at - tonumber(f[2])) * rate)
end
local granted = math.min(count, math.floor(level))
redis.call('HSET', KEYS[1], 'level', string.format('%.17g', level - granted), 'at', int(at))
redis.call('PEXPIRE', KEYS[1], int(math.ceil((burst - level + granted) / rate) + ${MARGIN_MS}))
if granted > 0 then
  return {granted, 0}
end
return {0, math.ceil((1 - level) / rate)}
`,
)

export async function takeRequests(
  ctx: RedisContext,
  principal: string,
  count: number,
): Promise<RequestsTaken> {
  checkCount(count)
  const rate = ctx.policy.requestRate
  if (rate === null) return { granted: count, retryAfterMs: 0 }
  // Names of principals can be long, and hold anything.
  const name = createHash('sha256').update(principal).digest('hex')
  const answer = await ctx.onBucket(TAKE, name, count, rate.perMinute, rate.burst)
  const [granted, retryAfterMs] = Array.isArray(answer) ? answer.map(Number) : []
  return { granted: granted ?? 0, retryAfterMs: retryAfterMs ?? 0 }
}
