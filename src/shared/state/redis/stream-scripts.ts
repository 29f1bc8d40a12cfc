/**
 * Scripts for standalone streams. Who holds one is kept with what spans sessions, so that a holder renews all of its leases at once and lost ones are
 * found; kept events and the newest epoch are kept with the session.
 */
import { CLOCK, SESSION, SHARES } from './lua.ts'
import { script } from './script.ts'

/** Events kept for a client without a stream, per session, and their bytes. */
const MAX_EVENTS = 256
const MAX_BYTES = 1_048_576

/** A lease is kept as `<epoch>:<end>:<1 when offered>:<holder, empty for none>`. */
const LEASES = `
local function lease_of(name)
  local text = redis.call('HGET', G .. ':streams', name)
  if not text then
    return nil
  end
  local epoch, ends, offered, holder = string.match(text, '^(%d+):(%d+):([01]):(.*)$')
  return {epoch = tonumber(epoch), ends = tonumber(ends), offered = offered == '1', holder = holder}
end
local function keep_lease(name, lease)
  local offered = lease.offered and '1' or '0'
  redis.call('HSET', G .. ':streams', name, int(lease.epoch) .. ':' .. int(lease.ends) .. ':' .. offered .. ':' .. lease.holder)
  if lease.holder == '' then
    redis.call('ZREM', G .. ':stream-ends', name)
  else
    redis.call('ZADD', G .. ':stream-ends', lease.offered and 0 or lease.ends, name)
  end
end
local function index_holder(command, name, holder)
  if holder ~= '' then
    local member = holder .. '\\n' .. name
    if command == 'ZADD' then
      redis.call('ZADD', G .. ':stream-holders', 0, member)
    else
      redis.call('ZREM', G .. ':stream-holders', member)
    end
  end
end
`

/**
 * Arguments: session, holder, expected epoch (empty for any), how long the lease lasts, channel, message. Answers `session_gone`, `epoch_passed`, or
 * `claimed`, the epoch and the holder before, empty for none.
 */
export const CLAIM_STREAM = script(
  CLOCK,
  SHARES,
  LEASES,
  `
local name, holder, expected = ARGV[2], ARGV[3], tonumber(ARGV[4])
if redis.call('HEXISTS', G .. ':shares', name) == 0 then
  return {'session_gone'}
end
local lease = lease_of(name) or {epoch = 0, ends = 0, offered = false, holder = ''}
local free = lease.holder == '' or lease.offered or lease.ends < now
if expected and (lease.epoch ~= expected or not free) then
  return {'epoch_passed'}
end
local before = lease.holder
index_holder('ZREM', name, before)
index_holder('ZADD', name, holder)
keep_lease(name, {epoch = lease.epoch + 1, ends = now + tonumber(ARGV[5]), offered = false, holder = holder})
redis.call('PUBLISH', ARGV[6], ARGV[7])
return {'claimed', lease.epoch + 1, before}
`,
)

/** Tells the session of a new epoch: what was allowed under an older one is refused from here on. Arguments: epoch. Answers the newest, 0 when it is gone. */
export const RAISE_EPOCH = script(
  CLOCK,
  SESSION,
  `
if not load_usable() then
  return 0
end
local epoch, known = tonumber(ARGV[3]), tonumber(redis.call('HGET', H, 'epoch')) or 0
if epoch > known then
  redis.call('HSET', H, 'epoch', epoch)
end
return math.max(epoch, known)
`,
)

/**
 * Gives a lease an epoch after one that the session knows of: those that are kept here were lost, and began anew. Arguments: session, epoch of the
 * lease, the session's. Answers the new one, or 0 when the lease has been claimed again.
 */
export const LIFT_STREAM = script(
  CLOCK,
  SHARES,
  LEASES,
  `
local lease = lease_of(ARGV[2])
if not lease or lease.epoch ~= tonumber(ARGV[3]) then
  return 0
end
lease.epoch = tonumber(ARGV[4]) + 1
keep_lease(ARGV[2], lease)
return lease.epoch
`,
)

/** Forgets the lease of a session that turned out to be gone. Arguments: session, epoch. */
export const FORGET_STREAM = script(
  CLOCK,
  SHARES,
  LEASES,
  `
local lease = lease_of(ARGV[2])
if lease and lease.epoch == tonumber(ARGV[3]) then
  drop_stream(ARGV[2])
end
`,
)

/** Arguments: holder, how long leases last, pairs of session and epoch. Answers the positions of pairs, from 0, that are not the holder's. */
export const RENEW_STREAMS = script(
  CLOCK,
  SHARES,
  LEASES,
  `
local holder, lasts, lost = ARGV[2], tonumber(ARGV[3]), {}
for i = 4, #ARGV, 2 do
  local lease = lease_of(ARGV[i])
  if lease and lease.epoch == tonumber(ARGV[i + 1]) and lease.holder == holder then
    lease.ends = now + lasts
    keep_lease(ARGV[i], lease)
  else
    lost[#lost + 1] = (i - 4) / 2
  end
end
return lost
`,
)

/** Arguments: session, epoch, how, channel, message. */
export const RELEASE_STREAM = script(
  CLOCK,
  SHARES,
  LEASES,
  `
local name = ARGV[2]
local lease = lease_of(name)
if not lease or lease.epoch ~= tonumber(ARGV[3]) then
  return
end
lease.offered = ARGV[4] == 'hand_over'
if not lease.offered then
  index_holder('ZREM', name, lease.holder)
  lease.holder = ''
end
keep_lease(name, lease)
if lease.offered then
  redis.call('PUBLISH', ARGV[5], ARGV[6])
end
`,
)

/** Arguments: most, what the names of lost holders begin with. Ends their leases, so that they can be claimed; answers pairs of session and epoch. */
export const ABANDONED_STREAMS = script(
  CLOCK,
  SHARES,
  LEASES,
  `
local most, answer, seen = tonumber(ARGV[2]), {}, {}
local function add(name)
  if #answer < most * 2 and not seen[name] then
    seen[name] = true
    local lease = lease_of(name)
    if lease then
      answer[#answer + 1] = name
      answer[#answer + 1] = lease.epoch
    end
  end
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', G .. ':stream-ends', '-inf', '(' .. int(now), 'LIMIT', 0, most)) do
  add(name)
end
for i = 3, #ARGV do
  local from, to = '[' .. ARGV[i], '(' .. ARGV[i] .. '\\255'
  for _, member in ipairs(redis.call('ZRANGEBYLEX', G .. ':stream-holders', from, to, 'LIMIT', 0, most)) do
    local name = string.match(member, '^[^\\n]*\\n(.*)$')
    local lease = lease_of(name)
    if lease then
      lease.ends = 0
      keep_lease(name, lease)
    end
    add(name)
  end
end
return answer
`,
)

/**
 * Arguments: epoch, channel, message, events. Answers 0 when the epoch is not the newest. Those of the epoch before it are kept too, and the channel
 * hears of it: they had arrived when the next holder took over.
 */
export const KEEP_EVENTS = script(
  CLOCK,
  SESSION,
  `
local s = load()
local epoch, newest = tonumber(ARGV[3]), tonumber(redis.call('HGET', H, 'epoch'))
if not s or not newest or (epoch ~= newest and epoch ~= newest - 1) then
  return 0
end
local E = H .. ':e'
local bytes = tonumber(redis.call('HGET', H, 'ebytes')) or 0
for i = 6, #ARGV do
  redis.call('RPUSH', E, ARGV[i])
  bytes = bytes + #ARGV[i]
end
while redis.call('LLEN', E) > ${MAX_EVENTS} or bytes > ${MAX_BYTES} do
  bytes = bytes - #redis.call('LPOP', E)
end
redis.call('HSET', H, 'ebytes', bytes)
refresh(s, true)
if epoch == newest then
  return 1
end
if #ARGV > 5 then
  redis.call('PUBLISH', ARGV[4], ARGV[5])
end
return 0
`,
)

/** Arguments: epoch. Answers the events. */
export const TAKE_EVENTS = script(
  CLOCK,
  SESSION,
  `
if tonumber(redis.call('HGET', H, 'epoch')) ~= tonumber(ARGV[3]) then
  return {}
end
local events = redis.call('LRANGE', H .. ':e', 0, -1)
redis.call('DEL', H .. ':e')
redis.call('HDEL', H, 'ebytes')
return events
`,
)
