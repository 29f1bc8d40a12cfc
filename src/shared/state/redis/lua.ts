/**
 * What scripts have in common. Each is made of these parts and a body.
 *
 * Every script: `KEYS[1]` is what its keys begin with, `ARGV[1]` the clock (milliseconds to add to Redis' own time, or `=` and the time for tests).
 * Scripts of a session: `ARGV[2]` is the policy as one string, see `context.ts`.
 * Times are Unix milliseconds.
 */

/** A claim, an opening or an adoption that is older than this, in milliseconds, is not under way any more: who made it is gone. */
export const UNDER_WAY_MS = 60_000

/** What was claimed may be used for so long, in milliseconds: well before others take the claim for lost. */
export const USABLE_MS = 45_000

/**
 * `now`, and `fine`: the same with microseconds as a fraction, to order uses within a millisecond. Of a number, `int` makes what is written without an
 * exponent; `append` adds the entries of one list to another.
 */
export const CLOCK = `
local now, fine
if string.sub(ARGV[1], 1, 1) == '=' then
  now = tonumber(string.sub(ARGV[1], 2))
  fine = now
else
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
  fine = now + (time[2] % 1000) / 1000
end
local function int(n)
  return string.format('%.0f', n)
end
local function append(list, more)
  for _, entry in ipairs(more) do
    list[#list + 1] = entry
  end
  return list
end
`

/**
 * The session: `load()` answers nil or its state, state `'0'` active and `'1'` tombstoned; `standing` is what it is at this moment, swept or not.
 * `refresh` moves the time at which the keys end by themselves, which is long after a sweep should have ended the session.
 */
export const SESSION = `
local H = KEYS[1]
local idle, life, revivable, keep, tomb, uttl, attl, grace, maxbytes, afirst =
  string.match(ARGV[2], '^(%d*):(%d*):(%d*):(%d*):(%d*):(%d*):(%d*):(%d*):(%d*):(%d*)$')
idle, life, keep, tomb = tonumber(idle), tonumber(life), tonumber(keep), tonumber(tomb)
local SUFFIXES = {'', ':i', ':z', ':u', ':a', ':p', ':r', ':rt', ':o', ':e'}
local function load()
  local f = redis.call('HMGET', H, 'st', 'la', 'te', 'tr', 'v', 'xp')
  if not f[1] then
    return nil
  end
  local s = {
    st = f[1], la = tonumber(f[2]), te = tonumber(f[3]), terminal = f[4],
    readable = f[5] == '1' or f[5] == '2', xp = tonumber(f[6]), standing = 'active'
  }
  if s.st == '1' or (idle and s.la < now - idle) then
    local ends = s.te or (s.la + (idle or 0) + life)
    s.te = s.st == '1' and ends or s.te
    s.standing = (revivable == '1' and not s.terminal and ends >= now) and 'tombstoned' or 'gone'
  end
  return s
end
local function load_usable()
  local s = load()
  if s and s.standing ~= 'gone' then
    return s
  end
end
local function refresh(s, force)
  if keep then
    if force or not s.xp or now - s.xp >= 3600000 then
      for _, suffix in ipairs(SUFFIXES) do
        redis.call('PEXPIRE', H .. suffix, keep)
      end
      redis.call('HSET', H, 'xp', now)
    end
  elseif s.xp then
    for _, suffix in ipairs(SUFFIXES) do
      redis.call('PERSIST', H .. suffix)
    end
    redis.call('HDEL', H, 'xp')
  end
end
local function create(state, record, version, upstream)
  redis.call('HSET', H, 'st', state, 'la', now, 'rec', record, 'v', version, 'up', upstream,
    'used', 0, 'resv', 0, 'ups', 0, 'arts', 0, 'pend', 0, 'ver', 1, 'seq', 0)
  refresh({}, true)
end
local function touch(s)
  if s.standing == 'active' and s.la < now then
    redis.call('HSET', H, 'la', now)
    s.la = now
    refresh(s, false)
  end
end
local function tombstone(s, channel, message)
  s.te = s.la + (idle or 0) + life
  s.st = '1'
  redis.call('HSET', H, 'st', '1', 'te', s.te)
  redis.call('PUBLISH', channel, message)
end
`

/**
 * `share(s)`: what a session adds to the totals, as a string that only `SHARES` reads; `changed(s)` does the same after a change of it. The version
 * in it only grows, so that what is old can be told from what is new in whatever order it arrives.
 */
export const SUMS = `
uttl, attl, grace = tonumber(uttl), tonumber(attl), tonumber(grace)
local RESERVATION_MAX_AGE = 300000
local function due(s)
  local least
  local function at(key, after)
    if not after then
      return
    end
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if first[2] then
      local moment = math.floor(tonumber(first[2])) + after + 1
      if not least or moment < least then
        least = moment
      end
    end
  end
  if s.st == '1' then
    least = s.te + 1
  elseif idle then
    least = s.la + idle + 1
  end
  at(H .. ':u', uttl)
  at(H .. ':a', attl)
  at(H .. ':p', grace)
  at(H .. ':rt', RESERVATION_MAX_AGE)
  return least
end
local function share(s)
  local f = redis.call('HMGET', H, 'ver', 'used', 'resv', 'ups', 'arts', 'pend')
  local moment = due(s)
  local complete = int(tonumber(f[5]) - tonumber(f[6]))
  return table.concat(
    {f[1], f[2], f[3], f[4], complete, f[6], int(s.la), moment and int(moment) or ''}, ':')
end
local function changed(s)
  redis.call('HINCRBY', H, 'ver', 1)
  refresh(s, true)
  return share(s)
end
`

/**
 * Items: named by one letter for the kind (`u`, `a`) and their id. `own` notes who has begun what is under way (a pending artifact, a reservation), so
 * that only they keep it.
 */
export const ITEMS = `
maxbytes = tonumber(maxbytes)
local function own(id, owner)
  if owner ~= '' then
    redis.call('HSET', H .. ':o', id, owner)
  end
end
local function drop_item(field)
  local kind, id = string.sub(field, 1, 1), string.sub(field, 2)
  local size = tonumber(redis.call('HGET', H .. ':z', field)) or 0
  redis.call('HDEL', H .. ':i', field)
  redis.call('HDEL', H .. ':z', field)
  if kind == 'u' then
    redis.call('ZREM', H .. ':u', id)
    redis.call('HINCRBY', H, 'ups', -1)
  else
    if redis.call('ZREM', H .. ':a', id) == 0 and redis.call('ZREM', H .. ':p', id) == 1 then
      redis.call('HDEL', H .. ':o', id)
      redis.call('HINCRBY', H, 'pend', -1)
    end
    redis.call('HINCRBY', H, 'arts', -1)
  end
  if size > 0 then
    redis.call('HINCRBY', H, 'used', -size)
  end
end
local function drop_items(fields)
  for _, field in ipairs(fields) do
    drop_item(field)
  end
end
local function drop_reservation(id)
  local bytes = redis.call('HGET', H .. ':r', id)
  if not bytes then
    return false
  end
  redis.call('HDEL', H .. ':r', id)
  redis.call('HDEL', H .. ':o', id)
  redis.call('ZREM', H .. ':rt', id)
  redis.call('HINCRBY', H, 'resv', 0 - tonumber(bytes))
  return true
end
-- The least recently used items that must go so that this many bytes fit, and what that frees; nil when nothing makes them fit.
local function room(bytes)
  local f = redis.call('HMGET', H, 'used', 'resv')
  local used, reserved = tonumber(f[1]), tonumber(f[2])
  local excess = maxbytes and (used + reserved + bytes - maxbytes) or 0
  if excess > used then
    return nil
  end
  local victims, taken, freed = {}, {}, 0
  local function pick(kind, before)
    local start = 0
    while freed < excess do
      local ids = redis.call('ZRANGEBYSCORE', H .. ':' .. kind, '-inf', before, 'LIMIT', start, 32)
      if #ids == 0 then
        return
      end
      start = start + #ids
      for _, id in ipairs(ids) do
        local field = kind .. id
        local size = tonumber(redis.call('HGET', H .. ':z', field)) or 0
        if freed < excess and size > 0 and not taken[field] then
          taken[field] = true
          victims[#victims + 1] = field
          freed = freed + size
        end
      end
    end
  end
  if excess > 0 then
    local kinds = afirst == '1' and {'a', 'u'} or {'u', 'a'}
    local ttl = {u = uttl, a = attl}
    -- What has expired is of no use to anybody, so it goes before anything that is.
    for _, kind in ipairs(kinds) do
      if ttl[kind] then
        pick(kind, '(' .. int(now - ttl[kind]))
      end
    end
    for _, kind in ipairs(kinds) do
      pick(kind, '+inf')
    end
  end
  return victims, freed
end
`

/** Follows `SHARES` where only the maintainer may do it: `ARGV[2]` is its fence (empty for none), and an old one is answered `fenced`. */
export const FENCED = `
if ARGV[2] ~= '' and redis.call('GET', G .. ':fence') ~= ARGV[2] then
  return {'fenced'}
end
`

/** `remove()` ends a session; its nonces stay until they expire. `fields()` are the names of its items. */
export const REMOVAL = `
local function fields()
  return redis.call('HKEYS', H .. ':z')
end
local function remove()
  for _, suffix in ipairs(SUFFIXES) do
    redis.call('UNLINK', H .. suffix)
  end
  redis.call('UNLINK', H .. ':c', H .. ':cn')
end
`

/** The sums over sessions. A share is kept as `<version>:<five sums>:<when it was put>`; a session without one is not known. */
export const SHARES = `
local G = KEYS[1]
local NAMES = {'used', 'resv', 'ups', 'arts', 'pend'}
local function parse(text)
  local v, a, b, c, d, e, rest, last = string.match(text, '^(%d+):(%d+):(%d+):(%d+):(%d+):(%d+):?(%d*):?(%d*)$')
  return tonumber(v), {tonumber(a), tonumber(b), tonumber(c), tonumber(d), tonumber(e)}, tonumber(rest), tonumber(last)
end
-- Bytes by which the totals grew, or nil when the session is not known.
local function put_share(name, text, force)
  local old = redis.call('HGET', G .. ':shares', name)
  if not old then
    return nil
  end
  local version, sums = parse(text)
  local before, had = parse(old)
  if version <= before and not force then
    return 0
  end
  for i, field in ipairs(NAMES) do
    if sums[i] ~= had[i] then
      redis.call('HINCRBY', G .. ':totals', field, sums[i] - had[i])
    end
  end
  redis.call('HSET', G .. ':shares', name, string.format('%.0f:%.0f:%.0f:%.0f:%.0f:%.0f:%.0f',
    version, sums[1], sums[2], sums[3], sums[4], sums[5], now))
  return sums[1] + sums[2] - had[1] - had[2]
end
local function add_share(name)
  redis.call('HSETNX', G .. ':shares', name, '0:0:0:0:0:0:' .. int(now))
end
local function drop_claim(id)
  local bytes = redis.call('HGET', G .. ':claims', id)
  if not bytes then
    return 0
  end
  redis.call('HDEL', G .. ':claims', id)
  redis.call('ZREM', G .. ':claim-times', id)
  redis.call('HINCRBY', G .. ':totals', 'claimed', 0 - tonumber(bytes))
  return tonumber(bytes)
end
local function drop_stream(name)
  local held = redis.call('HGET', G .. ':streams', name)
  if held then
    local holder = string.match(held, '^%d+:%d+:[01]:(.*)$')
    redis.call('HDEL', G .. ':streams', name)
    redis.call('ZREM', G .. ':stream-ends', name)
    redis.call('ZREM', G .. ':stream-holders', holder .. '\\n' .. name)
  end
end
-- Bytes by which the totals shrank.
local function drop_session(name)
  local old = redis.call('HGET', G .. ':shares', name)
  redis.call('ZREM', G .. ':active', name)
  redis.call('ZREM', G .. ':due', name)
  drop_stream(name)
  if not old then
    return 0
  end
  local _, had = parse(old)
  for i, field in ipairs(NAMES) do
    if had[i] ~= 0 then
      redis.call('HINCRBY', G .. ':totals', field, -had[i])
    end
  end
  redis.call('HDEL', G .. ':shares', name)
  return had[1] + had[2]
end
local function look_at(name, moment)
  redis.call('ZADD', G .. ':due', 'LT', moment, name)
end
`
