/** Scripts for uploads and their nonces. */
import { CLOCK, ITEMS, SESSION, SUMS } from './lua.ts'
import { script } from './script.ts'

/** How long a nonce is kept after it has expired, in milliseconds. */
const NONCE_MARGIN_MS = 60_000

/**
 * Arguments: reservation, nonce (empty for none), when that expires, bytes of all uploads, then groups of id, size and record. Answers
 * `session_gone`, `nonce_used`, `reservation_gone`, `too_large` and what was reserved, `duplicate`, or `ok` and the share.
 */
export const COMMIT_UPLOADS = script(
  CLOCK,
  SESSION,
  SUMS,
  ITEMS,
  `
local reservation, nonce, expires, bytes = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local s = load_usable()
if not s then
  return {'session_gone'}
end
if nonce ~= '' then
  local used = redis.call('ZSCORE', H .. ':n', nonce)
  if used and tonumber(used) >= now then
    return {'nonce_used'}
  end
end
local reserved = redis.call('HGET', H .. ':r', reservation)
if not reserved then
  return {'reservation_gone'}
end
if bytes > tonumber(reserved) then
  return {'too_large', reserved}
end
for i = 7, #ARGV, 3 do
  if redis.call('HEXISTS', H .. ':i', 'u' .. ARGV[i]) == 1 then
    return {'duplicate'}
  end
end
drop_reservation(reservation)
for i = 7, #ARGV, 3 do
  local id, size = ARGV[i], ARGV[i + 1]
  redis.call('HSET', H .. ':i', 'u' .. id, ARGV[i + 2])
  redis.call('HSET', H .. ':z', 'u' .. id, size)
  redis.call('ZADD', H .. ':u', fine, id)
  redis.call('HINCRBY', H, 'ups', 1)
end
redis.call('HINCRBY', H, 'used', bytes)
if nonce ~= '' then
  redis.call('ZREMRANGEBYSCORE', H .. ':n', '-inf', '(' .. int(now))
  redis.call('ZADD', H .. ':n', expires, nonce)
  local last = tonumber(redis.call('ZRANGE', H .. ':n', -1, -1, 'WITHSCORES')[2])
  redis.call('PEXPIRE', H .. ':n', int(math.max(last - now, 0) + ${NONCE_MARGIN_MS}))
end
touch(s)
return {'ok', changed(s)}
`,
)

/** Arguments: nonce. Answers 1 when it was redeemed and has not expired. */
export const IS_NONCE_USED = script(
  CLOCK,
  `
local used = redis.call('ZSCORE', KEYS[1] .. ':n', ARGV[3])
return used and tonumber(used) >= now and 1 or 0
`,
)

/** Arguments: ids. Answers `session_gone`, `unknown` or `expired` and the position from 0, or `ok` and the records. */
export const RESOLVE_UPLOADS = script(
  CLOCK,
  SESSION,
  `
local s = load_usable()
if not s then
  return {'session_gone'}
end
local answer = {'ok'}
for i = 3, #ARGV do
  local used = redis.call('ZSCORE', H .. ':u', ARGV[i])
  if not used then
    return {'unknown', i - 3}
  end
  if tonumber(uttl) and tonumber(used) < now - tonumber(uttl) then
    return {'expired', i - 3}
  end
  answer[#answer + 1] = redis.call('HGET', H .. ':i', 'u' .. ARGV[i])
end
for i = 3, #ARGV do
  redis.call('ZADD', H .. ':u', 'XX', 'GT', fine, ARGV[i])
end
touch(s)
return answer
`,
)
