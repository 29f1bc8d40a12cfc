/** The task of initialising a lost upstream session again, on Redis: of all that notice the loss one has it. */
import type { SessionKey } from '../records.ts'
import { textOf } from './answers.ts'
import type { RedisContext } from './context.ts'
import { CLOCK, SESSION } from './lua.ts'
import { script } from './script.ts'
import { upstreamField } from './sessions.ts'

/** Arguments: holder, upstream id that was lost, how long. Answers `session_gone`, `done`, `busy` or `claimed`. */
const CLAIM_TASK = script(
  CLOCK,
  SESSION,
  `
local s = load_usable()
if not s or not s.readable then
  return 'session_gone'
end
local f = redis.call('HMGET', H, 'up', 'task', 'task-ends')
if f[1] ~= ARGV[4] then
  return 'done'
end
if f[2] and f[2] ~= ARGV[3] and tonumber(f[3]) >= now then
  return 'busy'
end
redis.call('HSET', H, 'task', ARGV[3], 'task-ends', int(now + tonumber(ARGV[5])))
return 'claimed'
`,
)

/** Arguments: holder. */
const END_TASK = script(`
if redis.call('HGET', KEYS[1], 'task') == ARGV[3] then
  redis.call('HDEL', KEYS[1], 'task', 'task-ends')
end
`)

export async function claimReinitialisation(
  ctx: RedisContext,
  key: SessionKey,
  holder: string,
  lostUpstreamSessionId: string | null,
  leaseMs: number,
): Promise<'claimed' | 'busy' | 'done' | 'session_gone'> {
  const lost = upstreamField(lostUpstreamSessionId)
  const answer = textOf(await ctx.onSession(CLAIM_TASK, key, holder, lost, leaseMs))
  return answer === 'claimed' || answer === 'busy' || answer === 'done' ? answer : 'session_gone'
}

export async function endReinitialisation(
  ctx: RedisContext,
  key: SessionKey,
  holder: string,
): Promise<void> {
  await ctx.onSession(END_TASK, key, holder)
}
