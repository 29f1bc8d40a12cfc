/** Scripts for what start-up and the orphan sweeper need. */
import { CLOCK, SESSION, SUMS } from './lua.ts'
import { script } from './script.ts'

/**
 * Creates a session that was found on disk. Arguments: record, its version, upstream id, state. Answers nil when it was created, its state and
 * share when it is there; a record of that which can't be read is replaced.
 */
export const ADOPT_SESSION = script(
  CLOCK,
  SESSION,
  SUMS,
  `
local s = load()
if s then
  if not s.readable then
    redis.call('HSET', H, 'rec', ARGV[3], 'v', ARGV[4], 'up', ARGV[5])
  end
  return {s.st, share(s)}
end
create(ARGV[6], ARGV[3], ARGV[4], ARGV[5])
if ARGV[6] == '1' then
  redis.call('HSET', H, 'te', now + tomb)
end
return nil
`,
)

/**
 * Adds complete items that have no record yet. Arguments: groups of item (a letter for its kind and its id), size and record. Answers the share, or
 * nil when the session is gone.
 */
export const ADOPT_ITEMS = script(
  CLOCK,
  SESSION,
  SUMS,
  `
local s = load()
if not s then
  return nil
end
for i = 3, #ARGV, 3 do
  local field, size = ARGV[i], ARGV[i + 1]
  local kind, id, record = string.sub(field, 1, 1), string.sub(field, 2), ARGV[i + 2]
  if redis.call('HEXISTS', H .. ':i', field) == 0 then
    if kind == 'a' then
      record = record .. cmsgpack.pack({order = redis.call('HINCRBY', H, 'seq', 1)})
    end
    redis.call('HSET', H .. ':i', field, record)
    redis.call('HSET', H .. ':z', field, size)
    redis.call('ZADD', H .. ':' .. kind, fine, id)
    redis.call('HINCRBY', H, kind == 'u' and 'ups' or 'arts', 1)
    redis.call('HINCRBY', H, 'used', size)
  end
end
return changed(s)
`,
)

/** Answers nil when there is no session in any state, else the number of its reservations and the names of its items. */
export const REFERENCED_ITEMS = script(
  CLOCK,
  `
if redis.call('EXISTS', KEYS[1]) == 0 then
  return nil
end
return {redis.call('HLEN', KEYS[1] .. ':r'), redis.call('HKEYS', KEYS[1] .. ':i')}
`,
)
