/** Scripts for artifacts. */
import { CLOCK, ITEMS, SESSION, SUMS } from './lua.ts'
import { script } from './script.ts'

/** Arguments: id, what is known of it, how many there may be, who asks. Answers `session_gone`, `at_capacity`, `duplicate`, or `ok` and the share. */
export const ALLOCATE = script(
  CLOCK,
  SESSION,
  SUMS,
  ITEMS,
  `
local id, most = ARGV[3], tonumber(ARGV[5])
local s = load_usable()
if not s or s.standing ~= 'active' then
  return {'session_gone'}
end
local count = tonumber(redis.call('HGET', H, 'arts'))
if most and count >= most then
  -- What is past its time-to-live holds no slot, swept or not.
  if attl then
    count = count - redis.call('ZCOUNT', H .. ':a', '-inf', '(' .. int(now - attl))
  end
  if count >= most then
    return {'at_capacity'}
  end
end
if redis.call('HSETNX', H .. ':i', 'a' .. id, ARGV[4]) == 0 then
  return {'duplicate'}
end
redis.call('HSET', H .. ':z', 'a' .. id, 0)
redis.call('ZADD', H .. ':p', fine, id)
own(id, ARGV[6])
redis.call('HINCRBY', H, 'arts', 1)
redis.call('HINCRBY', H, 'pend', 1)
touch(s)
return {'ok', changed(s)}
`,
)

/** Arguments: ids. */
export const TOUCH_PENDING = script(
  CLOCK,
  SESSION,
  `
if load_usable() then
  for i = 3, #ARGV do
    redis.call('ZADD', H .. ':p', 'XX', 'GT', fine, ARGV[i])
  end
end
`,
)

/**
 * Arguments: id, bytes, final description, bytes that must be freed because they were not claimed, end of the claim. Answers `session_gone`,
 * `unknown`, `session_quota` and the share without the artifact, `short` when less would be freed or the claim has ended, or `ok`, share, record, and
 * what was evicted.
 */
export const COMMIT_ARTIFACT = script(
  CLOCK,
  SESSION,
  SUMS,
  ITEMS,
  `
local id, bytes = ARGV[3], tonumber(ARGV[4])
local field = 'a' .. id
local s = load_usable()
if not s then
  return {'session_gone'}
end
if not redis.call('ZSCORE', H .. ':p', id) then
  return {'unknown'}
end
local victims, freed = room(bytes)
if not victims then
  drop_item(field)
  return {'session_quota', changed(s)}
end
if freed < tonumber(ARGV[6]) or now > tonumber(ARGV[7]) then
  return {'short'}
end
drop_items(victims)
local order = redis.call('HINCRBY', H, 'seq', 1)
local record = redis.call('HGET', H .. ':i', field) .. ARGV[5] .. cmsgpack.pack({createdAtMs = now, order = order})
redis.call('HSET', H .. ':i', field, record)
redis.call('HSET', H .. ':z', field, bytes)
redis.call('ZREM', H .. ':p', id)
redis.call('HDEL', H .. ':o', id)
redis.call('ZADD', H .. ':a', fine, id)
redis.call('HINCRBY', H, 'pend', -1)
redis.call('HINCRBY', H, 'used', bytes)
touch(s)
return append({'ok', changed(s), record}, victims)
`,
)

/** Arguments: id. Answers the share, or nil when there is none. */
export const DROP_ARTIFACT = script(
  CLOCK,
  SESSION,
  SUMS,
  ITEMS,
  `
local field = 'a' .. ARGV[3]
local s = load()
if not s or redis.call('HEXISTS', H .. ':i', field) == 0 then
  return nil
end
drop_item(field)
return changed(s)
`,
)

/** Removes an artifact that found no room. Arguments: id. Answers `session_gone`, `unknown`, or `ok` and the share. */
export const DROP_REFUSED = script(
  CLOCK,
  SESSION,
  SUMS,
  ITEMS,
  `
local s = load_usable()
if not s then
  return {'session_gone'}
end
if not redis.call('ZSCORE', H .. ':p', ARGV[3]) then
  return {'unknown'}
end
drop_item('a' .. ARGV[3])
return {'ok', changed(s)}
`,
)

/** Answers the records of those that are complete and not expired. */
export const LIST_ARTIFACTS = script(
  CLOCK,
  SESSION,
  `
local answer = {}
if load_usable() then
  local from = tonumber(attl) and int(now - tonumber(attl)) or '-inf'
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', H .. ':a', from, '+inf')) do
    answer[#answer + 1] = redis.call('HGET', H .. ':i', 'a' .. id)
  end
end
return answer
`,
)

/** Arguments: id. Answers the record, or nil when it is not complete or has expired. */
export const READ_ARTIFACT = script(
  CLOCK,
  SESSION,
  `
local s = load_usable()
local used = s and redis.call('ZSCORE', H .. ':a', ARGV[3])
if not used or (tonumber(attl) and tonumber(used) < now - tonumber(attl)) then
  return nil
end
redis.call('ZADD', H .. ':a', 'XX', 'GT', fine, ARGV[3])
touch(s)
return redis.call('HGET', H .. ':i', 'a' .. ARGV[3])
`,
)
