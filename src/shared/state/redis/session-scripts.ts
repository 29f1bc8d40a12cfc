/** Scripts for the life of a session. */
import { CLOCK, REMOVAL, SESSION, SHARES, SUMS, UNDER_WAY_MS } from './lua.ts'
import { script } from './script.ts'

/** Arguments: record, its version, upstream id, end of the slot. Answers `opened`; `known` when there is a session; `late` when the slot has ended. */
export const OPEN = script(
  CLOCK,
  SESSION,
  `
if redis.call('EXISTS', H) == 1 then
  return 'known'
end
if now > tonumber(ARGV[6]) then
  return 'late'
end
create('0', ARGV[3], ARGV[4], ARGV[5])
return 'opened'
`,
)

/** Answers nil, or record, standing, last access, terminal reason, drift. */
export const READ = script(
  CLOCK,
  SESSION,
  `
local s = load_usable()
if not s then
  return nil
end
return {redis.call('HGET', H, 'rec'), s.standing, int(s.la), s.terminal, redis.call('HGET', H, 'drift')}
`,
)

/** Answers nil when the session is not active, else its upstream id. */
export const TOUCH = script(
  CLOCK,
  SESSION,
  `
local s = load_usable()
if not s or s.standing ~= 'active' then
  return nil
end
touch(s)
return s.readable and redis.call('HGET', H, 'up') or nil
`,
)

/**
 * What a revival finds. Arguments: channel, message. Answers `gone`; `active`, and the session is touched; or `tombstoned`, the end of the tombstone,
 * and 1 when the session was idle and marked active until now.
 */
export const LOOK_BEFORE_REVIVAL = script(
  CLOCK,
  SESSION,
  `
local s = load_usable()
if not s or not s.readable then
  return {'gone'}
end
if s.standing == 'active' then
  touch(s)
  return {'active'}
end
local marked = s.st == '0'
if marked then
  tombstone(s, ARGV[3], ARGV[4])
end
return {'tombstoned', int(s.te), marked and 1 or 0}
`,
)

/**
 * Makes a tombstone active. Arguments: channel, message, end of the slot. Answers `gone`, `active` when it was, `late` when the slot has ended, or
 * `revived` and its share.
 */
export const REVIVE = script(
  CLOCK,
  SESSION,
  SUMS,
  `
local s = load_usable()
if not s or not s.readable then
  return {'gone'}
end
if s.standing == 'active' then
  touch(s)
  return {'active'}
end
if now > tonumber(ARGV[5]) then
  return {'late'}
end
redis.call('HSET', H, 'st', '0', 'la', now)
redis.call('HDEL', H, 'te')
s.st, s.la, s.te, s.standing = '0', now, nil, 'active'
redis.call('PUBLISH', ARGV[3], ARGV[4])
refresh(s, true)
return {'revived', share(s)}
`,
)

/** Arguments: record, its version, upstream id, expected upstream id, channel, message. Answers 1, or 0 when another is there. */
export const REPLACE = script(
  CLOCK,
  SESSION,
  `
local s = load_usable()
if not s or not s.readable or redis.call('HGET', H, 'up') ~= ARGV[6] then
  return 0
end
redis.call('HSET', H, 'rec', ARGV[3], 'v', ARGV[4], 'up', ARGV[5])
redis.call('PUBLISH', ARGV[7], ARGV[8])
return 1
`,
)

/** Arguments: channel, message. Answers the record, or nil when there was no session. */
export const CLOSE = script(
  CLOCK,
  SESSION,
  REMOVAL,
  `
local record = redis.call('HGET', H, 'rec')
if not record then
  return nil
end
remove()
redis.call('PUBLISH', ARGV[3], ARGV[4])
return record
`,
)

/**
 * Makes a tombstone of a session that is idle. Arguments: channel, message. Answers `none`, `active` and its last access, `before` and the end of the
 * tombstone that it was, or `tombstoned` and that.
 */
export const TOMBSTONE_IF_IDLE = script(
  CLOCK,
  SESSION,
  `
local s = load()
if not s then
  return {'none', '0'}
end
if s.st == '1' then
  return {'before', int(s.te)}
end
if not idle or s.la >= now - idle then
  return {'active', int(s.la)}
end
tombstone(s, ARGV[3], ARGV[4])
return {'tombstoned', int(s.te)}
`,
)

/**
 * Takes a slot of active sessions. Arguments: how many there are, idle time, session, why. To `open` the session must not be known; to `adopt`, the
 * answer is `known` when it is; `adopt-anyway` makes it known also without a slot; to `revive`, a slot that the session has counts as free.
 * Answers `known`; `taken` and the time; `without`; or `full`, the time of the slot that it has, and pairs of session and time: those that seem idle.
 */
export const TAKE_SLOT = script(
  CLOCK,
  SHARES,
  `
local most, idle, name, why = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
if why ~= 'revive' and redis.call('HEXISTS', G .. ':shares', name) == 1 then
  return {'known'}
end
local held = redis.call('ZSCORE', G .. ':active', name)
local others = redis.call('ZCARD', G .. ':active')
if held then
  others = others - 1
end
if most and others >= most then
  if why == 'adopt-anyway' then
    add_share(name)
    look_at(name, now + ${UNDER_WAY_MS})
    return {'without'}
  end
  local answer = {'full', held or ''}
  if idle then
    local seem = redis.call('ZRANGEBYSCORE', G .. ':active', '-inf', '(' .. int(now - idle), 'WITHSCORES', 'LIMIT', 0, 64)
    append(answer, seem)
  end
  return answer
end
redis.call('ZADD', G .. ':active', now, name)
add_share(name)
look_at(name, now + math.min(idle and idle + 1 or ${UNDER_WAY_MS}, ${UNDER_WAY_MS}))
return {'taken', redis.call('ZSCORE', G .. ':active', name)}
`,
)

/**
 * Gives slots back. Arguments: groups of session, the time of its slot, and what `TOMBSTONE_IF_IDLE` answered. A slot that was renewed meanwhile is
 * kept, and so is one that may just have been taken for what is not there yet.
 */
export const FREE_SLOTS = script(
  CLOCK,
  SHARES,
  `
for i = 2, #ARGV, 4 do
  local name, seen, outcome, moment = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
  if outcome == 'active' then
    redis.call('ZADD', G .. ':active', 'XX', 'GT', moment, name)
  elseif redis.call('ZSCORE', G .. ':active', name) == seen then
    local old = tonumber(seen) < now - ${UNDER_WAY_MS}
    if outcome == 'tombstoned' or (outcome == 'before' and old) then
      redis.call('ZREM', G .. ':active', name)
      look_at(name, moment + 1)
    elseif outcome == 'none' and old then
      drop_session(name)
    end
  end
end
`,
)

/** Takes over what operations on one session did. Arguments: claim that has ended, session, its share; the last two can be empty. */
export const SETTLE = script(
  CLOCK,
  SHARES,
  `
if ARGV[2] ~= '' then
  drop_claim(ARGV[2])
end
local name, text = ARGV[3], ARGV[4]
if text ~= '' and put_share(name, text) then
  local _, _, used, moment = parse(text)
  redis.call('ZADD', G .. ':active', 'XX', 'GT', used, name)
  if moment then
    look_at(name, moment)
  end
end
`,
)

/** Forgets a session that is gone. Arguments: session. */
export const FORGET = script(
  CLOCK,
  SHARES,
  `
drop_session(ARGV[2])
`,
)

/** Notes use of active sessions. Arguments: sessions. Answers the positions, from 0, of those that are not known. */
export const NOTE_USE = script(
  CLOCK,
  SHARES,
  `
local unknown = {}
for i = 2, #ARGV do
  redis.call('ZADD', G .. ':active', 'XX', 'GT', now, ARGV[i])
  if redis.call('HEXISTS', G .. ':shares', ARGV[i]) == 0 then
    unknown[#unknown + 1] = i - 2
  end
end
return unknown
`,
)
