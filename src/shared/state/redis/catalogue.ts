/** What is pinned of a session's tools, and how they differ from it, on Redis: fields of the session's hash. */
import { checkPinned } from '../catalogue-operations.ts'
import type { SessionKey } from '../records.ts'
import { textOf } from './answers.ts'
import type { RedisContext } from './context.ts'
import { CLOCK, SESSION } from './lua.ts'
import { script } from './script.ts'

/** Arguments: what to pin. Answers nil when the session is gone, an empty text when this is what counts, else what counts. */
const PIN = script(
  CLOCK,
  SESSION,
  `
local s = load_usable()
if not s or not s.readable then
  return nil
end
if redis.call('HSETNX', H, 'pin', ARGV[3]) == 1 then
  return ''
end
local pinned = redis.call('HGET', H, 'pin')
return pinned == ARGV[3] and '' or pinned
`,
)

/** Arguments: 0, or 1 and the drift as one text; channel, message. Answers 1 when that is news. */
const NOTE_DRIFT = script(
  CLOCK,
  SESSION,
  `
local s = load_usable()
if not s or not s.readable then
  return 0
end
local drift = string.sub(ARGV[3], 1, 1) == '1' and string.sub(ARGV[3], 2)
if redis.call('HGET', H, 'drift') == drift then
  return 0
end
if drift then
  redis.call('HSET', H, 'drift', drift)
else
  redis.call('HDEL', H, 'drift')
end
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1
`,
)

export async function pinCatalogue(
  ctx: RedisContext,
  key: SessionKey,
  tools: string,
): Promise<string | undefined> {
  checkPinned(tools)
  const answer = await ctx.onSession(PIN, key, tools)
  if (answer === null) return undefined
  const pinned = textOf(answer)
  return pinned === '' ? tools : pinned
}

export async function noteDrift(
  ctx: RedisContext,
  key: SessionKey,
  drift: string | null,
): Promise<boolean> {
  const text = drift === null ? '0' : `1${drift}`
  return (await ctx.onSession(NOTE_DRIFT, key, text, ...ctx.invalidation(key, 'others'))) === 1
}
