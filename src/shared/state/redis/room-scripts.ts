/** Scripts for room: bytes set aside among all sessions, and reservations of one. */
import { CLOCK, ITEMS, SESSION, SHARES, SUMS, UNDER_WAY_MS } from './lua.ts'
import { script } from './script.ts'

/** A claim that is younger than this, in milliseconds, may still be given back: it is worth to wait for. */
const FRESH_CLAIM_MS = 2_000

/**
 * Sets bytes aside in the total before a session uses them. Arguments: how many there may be, claim, session, bytes (zero and less only ask).
 * Answers `ok` and the time; `full`; or `crowded` when they would fit if what others have just claimed were given back.
 */
export const CLAIM = script(
  CLOCK,
  SHARES,
  `
local most, claim, name, bytes = tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5])
if most then
  local f = redis.call('HMGET', G .. ':totals', 'used', 'resv', 'claimed')
  local total = (tonumber(f[1]) or 0) + (tonumber(f[2]) or 0) + (tonumber(f[3]) or 0)
  if total + bytes > most then
    local fresh = 0
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', G .. ':claim-times', now - ${FRESH_CLAIM_MS}, '+inf', 'LIMIT', 0, 256)) do
      fresh = fresh + (tonumber(redis.call('HGET', G .. ':claims', id)) or 0)
    end
    return {total - fresh + bytes <= most and 'crowded' or 'full'}
  end
end
if bytes > 0 then
  redis.call('HSET', G .. ':claims', claim, bytes)
  redis.call('ZADD', G .. ':claim-times', now, claim)
  redis.call('HINCRBY', G .. ':totals', 'claimed', bytes)
  -- Should the rest not happen, a sweep finds what there is to find.
  look_at(name, now + ${UNDER_WAY_MS})
end
return {'ok', int(now)}
`,
)

/**
 * What making room would free, without doing it. Arguments: bytes, reservation (empty for a new one), pending artifact (empty for none). Answers
 * `session_gone`, `reservation_gone`, `unknown`, `session_quota`, or `ok` and bytes.
 */
export const PLAN_ROOM = script(
  CLOCK,
  SESSION,
  SUMS,
  ITEMS,
  `
local s = load_usable()
if not s then
  return {'session_gone'}
end
if ARGV[5] ~= '' then
  if not redis.call('ZSCORE', H .. ':p', ARGV[5]) then
    return {'unknown'}
  end
elseif ARGV[4] == '' then
  if s.standing ~= 'active' then
    return {'session_gone'}
  end
elseif redis.call('HEXISTS', H .. ':r', ARGV[4]) == 0 then
  return {'reservation_gone'}
end
local victims, freed = room(tonumber(ARGV[3]))
if not victims then
  return {'session_quota'}
end
return {'ok', int(freed)}
`,
)

/**
 * Arguments: bytes, reservation that grows (empty for a new one), id of a new one, bytes that must be freed because they were not claimed, end of
 * the claim, who asks. Answers `session_gone`, `reservation_gone`, `session_quota`, `short` when less would be freed or the claim has ended, or `ok`,
 * share, and what was evicted.
 */
export const RESERVE = script(
  CLOCK,
  SESSION,
  SUMS,
  ITEMS,
  `
local bytes, known, id = tonumber(ARGV[3]), ARGV[4], ARGV[5]
local s = load_usable()
if not s or (known == '' and s.standing ~= 'active') then
  return {'session_gone'}
end
if known ~= '' then
  if redis.call('HEXISTS', H .. ':r', known) == 0 then
    return {'reservation_gone'}
  end
  id = known
end
touch(s)
local victims, freed = room(bytes)
if not victims then
  return {'session_quota'}
end
if freed < tonumber(ARGV[6]) or now > tonumber(ARGV[7]) then
  return {'short'}
end
drop_items(victims)
redis.call('HINCRBY', H .. ':r', id, bytes)
redis.call('ZADD', H .. ':rt', fine, id)
own(id, ARGV[8])
redis.call('HINCRBY', H, 'resv', bytes)
return append({'ok', changed(s)}, victims)
`,
)

/** Arguments: reservation. Answers the share, or nil when there is none. */
export const RELEASE = script(
  CLOCK,
  SESSION,
  SUMS,
  ITEMS,
  `
local s = load()
if not s or not drop_reservation(ARGV[3]) then
  return nil
end
return changed(s)
`,
)
