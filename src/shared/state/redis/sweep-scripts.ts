/** Scripts that end what has expired. */
import { CLOCK, FENCED, ITEMS, REMOVAL, SESSION, SHARES, SUMS, UNDER_WAY_MS } from './lua.ts'
import { script } from './script.ts'

/**
 * Sessions to look at now. Arguments: fence (empty for none), most. Answers `fenced`; or `ok` and groups of session, when it was due, and the time of
 * its slot (empty for none).
 */
export const FIND_DUE = script(
  CLOCK,
  SHARES,
  FENCED,
  `
local answer = {'ok'}
local found = redis.call('ZRANGEBYSCORE', G .. ':due', '-inf', now, 'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[3]))
for i = 1, #found, 2 do
  answer[#answer + 1] = found[i]
  answer[#answer + 1] = found[i + 1]
  answer[#answer + 1] = redis.call('ZSCORE', G .. ':active', found[i]) or ''
end
return answer
`,
)

/**
 * Ends what has expired of one session. Arguments: most items, channel, message. Answers `none`; `expired` (idle and never to be revived) or
 * `removed` (its tombstone is over), its record and the names of its items; or `tombstoned`, `asleep` (a tombstone already) or `kept`, its share
 * and the names of items that were removed.
 */
export const SWEEP_SESSION = script(
  CLOCK,
  SESSION,
  SUMS,
  ITEMS,
  REMOVAL,
  `
local most = tonumber(ARGV[3])
local s = load()
if not s then
  return {'none'}
end
local outcome = s.st == '1' and 'asleep' or 'kept'
if s.st == '0' and s.standing == 'gone' then
  outcome = 'expired'
elseif s.st == '0' and s.standing == 'tombstoned' then
  tombstone(s, ARGV[4], ARGV[5])
  outcome = 'tombstoned'
elseif s.st == '1' and s.te < now then
  outcome = 'removed'
end
if outcome == 'expired' or outcome == 'removed' then
  local answer = append({outcome, redis.call('HGET', H, 'rec') or ''}, fields())
  remove()
  redis.call('PUBLISH', ARGV[4], ARGV[5])
  return answer
end
local gone = {}
local function sweep(key, letter, ttl)
  if not ttl or #gone >= most then
    return
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', H .. key, '-inf', '(' .. int(now - ttl), 'LIMIT', 0, most - #gone)) do
    gone[#gone + 1] = letter .. id
    drop_item(letter .. id)
  end
end
sweep(':u', 'u', uttl)
sweep(':a', 'a', attl)
sweep(':p', 'a', grace)
local late = redis.call('ZRANGEBYSCORE', H .. ':rt', '-inf', '(' .. int(now - RESERVATION_MAX_AGE))
for _, id in ipairs(late) do
  drop_reservation(id)
end
return append({outcome, (#gone > 0 or #late > 0) and changed(s) or share(s)}, gone)
`,
)

/**
 * Takes over what a step did. Arguments: session, when it was due, time of its slot, what `SWEEP_SESSION` answered, share (empty for none). The next
 * time is only put off when nobody else has said something newer. Answers `unknown` when the session is there and not known here, else nil.
 */
export const SETTLE_SWEEP = script(
  CLOCK,
  SHARES,
  `
local name, due, slot, outcome, text = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local kept = redis.call('HGET', G .. ':shares', name)
if outcome == 'expired' or outcome == 'removed' then
  drop_session(name)
  return
end
if outcome == 'none' then
  local _, _, since = parse(kept or '0:0:0:0:0:0:0')
  local held = redis.call('ZSCORE', G .. ':active', name)
  local newest = math.max(since or 0, held and tonumber(held) or 0)
  if newest < now - ${UNDER_WAY_MS} then
    drop_session(name)
  else
    redis.call('ZADD', G .. ':due', 'XX', newest + ${UNDER_WAY_MS} + 1, name)
  end
  return
end
if not kept then
  return 'unknown'
end
local before = parse(kept)
local version, _, used, moment = parse(text)
put_share(name, text)
local held = redis.call('ZSCORE', G .. ':active', name)
if outcome == 'kept' then
  redis.call('ZADD', G .. ':active', 'XX', 'GT', used, name)
elseif held and held == slot and (outcome == 'tombstoned' or (outcome == 'asleep' and tonumber(held) < now - ${UNDER_WAY_MS})) then
  redis.call('ZREM', G .. ':active', name)
end
if version >= before and redis.call('ZSCORE', G .. ':due', name) == due then
  if moment then
    redis.call('ZADD', G .. ':due', moment, name)
  else
    redis.call('ZREM', G .. ':due', name)
  end
elseif moment then
  look_at(name, moment)
end
`,
)
