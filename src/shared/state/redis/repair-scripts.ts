/** Scripts that make sums agree with what they sum up. */
import { CLOCK, FENCED, REMOVAL, SESSION, SHARES, SUMS, UNDER_WAY_MS } from './lua.ts'
import { script } from './script.ts'

/** Sums up what a session has, and corrects what it says that it has. Answers `none`, or `found`, its state and its share. */
export const RECOUNT_SESSION = script(
  CLOCK,
  SESSION,
  SUMS,
  `
local s = load()
if not s then
  return {'none'}
end
local used, reserved = 0, 0
for _, size in ipairs(redis.call('HVALS', H .. ':z')) do
  used = used + tonumber(size)
end
for _, bytes in ipairs(redis.call('HVALS', H .. ':r')) do
  reserved = reserved + tonumber(bytes)
end
local pending = redis.call('ZCARD', H .. ':p')
local counted = {
  {'used', used}, {'resv', reserved}, {'ups', redis.call('ZCARD', H .. ':u')},
  {'arts', redis.call('ZCARD', H .. ':a') + pending}, {'pend', pending}
}
local wrong = false
for _, pair in ipairs(counted) do
  if tonumber(redis.call('HGET', H, pair[1])) ~= pair[2] then
    redis.call('HSET', H, pair[1], pair[2])
    wrong = true
  end
end
return {'found', s.st, wrong and changed(s) or share(s)}
`,
)

/** Makes a session known that is there. Arguments: session, its state, its share. */
export const READMIT = script(
  CLOCK,
  SHARES,
  `
local name, state, text = ARGV[2], ARGV[3], ARGV[4]
if redis.call('HEXISTS', G .. ':shares', name) == 1 then
  return
end
add_share(name)
put_share(name, text, true)
local _, _, used = parse(text)
if state == '0' then
  redis.call('ZADD', G .. ':active', 'NX', used, name)
end
look_at(name, now)
`,
)

/** Arguments: fence (empty for none), sessions. Answers `fenced`; or `ok` and for each session its share and the time of its slot, as kept here. */
export const LOOK_AT_SHARES = script(
  CLOCK,
  SHARES,
  FENCED,
  `
local answer = {'ok'}
for i = 3, #ARGV do
  answer[#answer + 1] = redis.call('HGET', G .. ':shares', ARGV[i]) or ''
  answer[#answer + 1] = redis.call('ZSCORE', G .. ':active', ARGV[i]) or ''
end
return answer
`,
)

/**
 * Corrects what is kept here of sessions. Arguments: fence (empty for none), groups of session, share and time of slot as `LOOK_AT_SHARES` answered,
 * and the session's own state and share (empty when it is not there), which were read after that. What changed since is not touched: that is the
 * business of the operation that changed it. Answers `fenced`, or `ok`, slots and bytes that were counted too much.
 */
export const CORRECT_SHARES = script(
  CLOCK,
  SHARES,
  FENCED,
  `
local slots, bytes = 0, 0
local under_way = now - ${UNDER_WAY_MS}
for i = 3, #ARGV, 5 do
  local name, seen, slot, state, text = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local kept = redis.call('HGET', G .. ':shares', name)
  local held = redis.call('ZSCORE', G .. ':active', name) or ''
  if kept and kept == seen then
    local _, _, since = parse(kept)
    local old_slot = held ~= '' and held == slot and tonumber(held) < under_way
    if text == '' then
      if since < under_way and (held == '' or old_slot) then
        bytes = bytes + drop_session(name)
        if held ~= '' then
          slots = slots + 1
        end
      end
    else
      -- The session said this after what is kept here: also when its version is older, which then has lost something.
      bytes = bytes - put_share(name, text, true)
      local _, _, used, moment = parse(text)
      if state == '0' and held == '' then
        redis.call('ZADD', G .. ':active', 'NX', used, name)
        slots = slots - 1
      elseif state == '1' and old_slot then
        redis.call('ZREM', G .. ':active', name)
        slots = slots + 1
      end
      if moment then
        look_at(name, moment)
      end
    end
  end
end
return {'ok', slots, int(bytes)}
`,
)

/** The time. */
export const NOW = script(CLOCK, 'return int(now)')

/**
 * Ends claims whose operation was not under way any more at a moment. Arguments: fence (empty for none), that moment. Answers `fenced`, or `ok` and
 * their bytes.
 */
export const END_CLAIMS = script(
  CLOCK,
  SHARES,
  FENCED,
  `
local bytes = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', G .. ':claim-times', '-inf', tonumber(ARGV[3]) - ${UNDER_WAY_MS})) do
  bytes = bytes + drop_claim(id)
end
return {'ok', int(bytes)}
`,
)

/** Sums all shares and claims up anew. Arguments: fence (empty for none). Answers `fenced`, or `ok`, slots and bytes that were counted too much. */
export const RECOUNT_ALL = script(
  CLOCK,
  SHARES,
  FENCED,
  `
local sums, claimed = {0, 0, 0, 0, 0}, 0
for _, text in ipairs(redis.call('HVALS', G .. ':shares')) do
  local _, had = parse(text)
  for i = 1, 5 do
    sums[i] = sums[i] + had[i]
  end
end
for _, bytes in ipairs(redis.call('HVALS', G .. ':claims')) do
  claimed = claimed + tonumber(bytes)
end
local before = redis.call('HMGET', G .. ':totals', 'used', 'resv', 'claimed')
local had = (tonumber(before[1]) or 0) + (tonumber(before[2]) or 0) + (tonumber(before[3]) or 0)
for i, field in ipairs(NAMES) do
  redis.call('HSET', G .. ':totals', field, sums[i])
end
redis.call('HSET', G .. ':totals', 'claimed', claimed)
local slots = 0
for _, name in ipairs(redis.call('ZRANGEBYSCORE', G .. ':active', '-inf', now - ${UNDER_WAY_MS})) do
  if redis.call('HEXISTS', G .. ':shares', name) == 0 then
    redis.call('ZREM', G .. ':active', name)
    slots = slots + 1
  end
end
return {'ok', slots, int(had - sums[1] - sums[2] - claimed)}
`,
)

/** Removes a session for good, nonces too. Arguments: channel, message. */
export const WIPE_SESSION = script(
  CLOCK,
  SESSION,
  REMOVAL,
  `
remove()
redis.call('UNLINK', H .. ':n')
redis.call('PUBLISH', ARGV[3], ARGV[4])
`,
)

/** Removes what is kept of all sessions. Fencing tokens go on growing. */
export const WIPE_ALL = script(
  CLOCK,
  SHARES,
  `
for _, suffix in ipairs({':active', ':due', ':shares', ':totals', ':claims', ':claim-times', ':streams', ':stream-ends', ':stream-holders'}) do
  redis.call('UNLINK', G .. suffix)
end
`,
)

/** Answers numbers of sessions, tombstones, uploads, artifacts, pending ones, bytes, and bytes that are reserved or claimed. */
export const INVENTORY = script(
  CLOCK,
  SHARES,
  `
local f = redis.call('HMGET', G .. ':totals', 'ups', 'arts', 'pend', 'used', 'resv', 'claimed')
for i = 1, 6 do
  f[i] = tonumber(f[i]) or 0
end
local active = redis.call('ZCARD', G .. ':active')
return {active, redis.call('HLEN', G .. ':shares') - active, f[1], f[2], f[3], f[4], f[5] + f[6]}
`,
)
