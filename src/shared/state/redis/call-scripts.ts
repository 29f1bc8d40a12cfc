/** Scripts for leases of calls, and for what keeps a session and what it has from ending. */
import { CLOCK, SESSION } from './lua.ts'
import { script } from './script.ts'

/** Keys of leases outlive the last lease by this, in milliseconds. */
const MARGIN_MS = 60_000

/**
 * `:c` has the leases by their end. `:cn` has their counts, named `l` and the lease, with the sum of all as `sum`, and how many of these were granted
 * beyond need, named `s` and the lease, with the sum of all as `spare`.
 */
const LEASES = `
local C, N = KEYS[1] .. ':c', KEYS[1] .. ':cn'
local function drop_lease(id)
  local count = redis.call('HGET', N, 'l' .. id)
  if count then
    redis.call('ZREM', C, id)
    local spare = redis.call('HGET', N, 's' .. id) or 0
    redis.call('HDEL', N, 'l' .. id, 's' .. id)
    -- Not the negative of it: of zero that is written -0, which is no integer.
    redis.call('HINCRBY', N, 'sum', 0 - tonumber(count))
    redis.call('HINCRBY', N, 'spare', 0 - tonumber(spare))
  end
end
local function drop_ended()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', C, '-inf', '(' .. int(now))) do
    drop_lease(id)
  end
end
local function outlive(ms)
  redis.call('PEXPIRE', C, ms + ${MARGIN_MS})
  redis.call('PEXPIRE', N, ms + ${MARGIN_MS})
end
`

/**
 * Arguments: lease, count, spare, most at a time, how long it lasts, channel, message. Answers `session_gone`, `at_limit`, `wait`, or the number of
 * places that the lease has now.
 */
export const ENTER_CALLS = script(
  CLOCK,
  SESSION,
  LEASES,
  `
local lease, count, spare = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local most, lasts = tonumber(ARGV[6]), tonumber(ARGV[7])
local s = load_usable()
if not s or s.standing ~= 'active' then
  return 'session_gone'
end
drop_ended()
local f = redis.call('HMGET', N, 'sum', 'spare', 'l' .. lease, 's' .. lease)
local own, own_spare = tonumber(f[3]) or 0, tonumber(f[4]) or 0
local others, unused = (tonumber(f[1]) or 0) - own, (tonumber(f[2]) or 0) - own_spare
if most and others + count > most then
  if unused <= 0 then
    return 'at_limit'
  end
  redis.call('PUBLISH', ARGV[8], ARGV[9])
  return 'wait'
end
if most and others + count + spare > most / 2 then
  spare = 0
end
redis.call('ZADD', C, now + lasts, lease)
redis.call('HSET', N, 'l' .. lease, count + spare, 's' .. lease, spare, 'sum', others + count + spare,
  'spare', unused + spare)
outlive(lasts)
return count + spare
`,
)

/** Arguments: lease. */
export const LEAVE_CALLS = script(
  CLOCK,
  LEASES,
  `
drop_lease(ARGV[3])
if redis.call('ZCARD', C) == 0 then
  redis.call('DEL', C, N)
end
`,
)

/**
 * Notes use of a session that has work: these leases, and the pending artifacts and reservations that the same one has begun, go on too; those of a
 * dead process must end, however long others use the session. One that lost its slot is not revived. Arguments: how long a lease lasts, who asks,
 * leases. Answers 1 when there is such a session.
 */
export const KEEP = script(
  CLOCK,
  SESSION,
  LEASES,
  `
local lasts, owner, renewed = tonumber(ARGV[3]), ARGV[4], false
for i = 5, #ARGV do
  local ends = redis.call('ZSCORE', C, ARGV[i])
  if ends and tonumber(ends) >= now then
    redis.call('ZADD', C, now + lasts, ARGV[i])
    renewed = true
  end
end
if renewed then
  outlive(lasts)
end
local s = load()
if not s or s.terminal then
  return 0
end
if s.la < now then
  redis.call('HSET', H, 'la', now)
end
if s.te and s.te < now + tomb then
  redis.call('HSET', H, 'te', now + tomb)
end
for _, key in ipairs({H .. ':p', H .. ':rt'}) do
  for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    if (redis.call('HGET', H .. ':o', id) or owner) == owner then
      redis.call('ZADD', key, 'XX', 'GT', fine, id)
    end
  end
end
refresh(s, false)
return 1
`,
)
