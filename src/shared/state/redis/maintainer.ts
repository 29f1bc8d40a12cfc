/** The one process that maintains, on Redis. */
import { numberOf, textOf } from './answers.ts'
import type { RedisContext } from './context.ts'
import { CLOCK } from './lua.ts'
import { script } from './script.ts'

/**
 * Arguments: holder, how long. Answers the token, or nil. Tokens are no smaller than the time, so that they also grow when Redis was restarted empty.
 */
const ELECT = script(
  CLOCK,
  `
local M, F = KEYS[1] .. ':maintainer', KEYS[1] .. ':fence'
local f = redis.call('HMGET', M, 'holder', 'ends')
local free = not f[1] or tonumber(f[2]) < now
if not free and f[1] ~= ARGV[2] then
  return nil
end
if free then
  redis.call('SET', F, int(math.max((tonumber(redis.call('GET', F)) or 0) + 1, now)))
end
redis.call('HSET', M, 'holder', ARGV[2], 'ends', int(now + tonumber(ARGV[3])))
return redis.call('GET', F)
`,
)

/** Arguments: holder. */
const RESIGN = script(`
local M = KEYS[1] .. ':maintainer'
if redis.call('HGET', M, 'holder') == ARGV[2] then
  redis.call('DEL', M)
end
`)

export async function electMaintainer(
  ctx: RedisContext,
  holder: string,
  leaseMs: number,
): Promise<number | null> {
  const token = textOf(await ctx.onAll(ELECT, holder, leaseMs))
  return token === '' ? null : numberOf(token)
}

export async function resignMaintainer(ctx: RedisContext, holder: string): Promise<void> {
  await ctx.onAll(RESIGN, holder)
}
