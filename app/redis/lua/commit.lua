-- Commit one batch of one partition, or one step of its retry scheduler: all of it or none of it.
-- KEYS: lease, source stream, then every other key that is written to.
-- ARGV: epoch, nonce, channel, number of commits so far, group,
--       number of writes, then (command, key index, number of arguments, arguments…) each,
--       trim the source below the last acknowledged entry (1 or 0): not what another group needs,
--       then the acknowledged entry ids.
-- Returns the ids that XADD gave, in order.
-- A stale owner gets FENCED. An owner whose snapshot of the partition is not what Redis has (a reply
-- was lost, or Redis lost its tail in a failover) gets OUTDATED and must read everything again.
-- There is one sequence of commits a partition, for they all change what the others rely on.
-- How far a stream has been worked off is kept beside the sequence: a group that is lost begins there.
-- Neither writes anything. Nothing rolls back in Redis: types, and rights where the server can say
-- them, are checked before the first write, and the acknowledgement comes last.
local done = 'done:' .. KEYS[2]
local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce', 'sequence', done)
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return redis.error_reply('FENCED the lease is held by another owner')
end
if (held[3] or '0') ~= ARGV[4] then
  return redis.error_reply('OUTDATED ' .. KEYS[1] .. ' has had ' .. (held[3] or '0') .. ' commits, not ' .. ARGV[4] .. ' (' .. ARGV[3] .. ')')
end
local wants = {XADD = 'stream', HSET = 'hash', HDEL = 'hash', ZADD = 'zset', ZREM = 'zset',
  RPUSH = 'list', LREM = 'list', RENAME = 'list', XTRIM = 'stream'}
local function refused(command, ...)
  if redis.acl_check_cmd and not redis.acl_check_cmd(command, ...) then
    return redis.error_reply('NOTALLOWED this user may not run ' .. command .. ' here')
  end
end
local source = redis.call('TYPE', KEYS[2])['ok']
if source ~= 'stream' and source ~= 'none' then
  return redis.error_reply('WRONGKIND ' .. KEYS[2] .. ' is a ' .. source .. ', not a stream')
end
local no = refused('XACK', KEYS[2], ARGV[5], '0-0') or refused('HINCRBY', KEYS[1], 'sequence', 1)
if no then return no end
local count = tonumber(ARGV[6])
local at = 7
local writes = {}
local looked = {}
for i = 1, count do
  local args = {}
  for j = 1, tonumber(ARGV[at + 2]) do args[j] = ARGV[at + 2 + j] end
  local command, key = ARGV[at], KEYS[tonumber(ARGV[at + 1])]
  local want = wants[command]
  if not looked[command] and command ~= 'PUBLISH' then
    looked[command] = true
    no = refused(command, key, unpack(args))
    if no then return no end
  end
  if want then
    local kind = redis.call('TYPE', key)['ok']
    if kind ~= want and kind ~= 'none' then
      return redis.error_reply('WRONGKIND ' .. key .. ' is a ' .. kind .. ', not a ' .. want)
    end
  end
  if command == 'RENAME' and redis.call('EXISTS', key) == 0 then
    return redis.error_reply('OUTDATED there is no ' .. key)
  end
  -- a feed's entry ids are its sequence numbers: one that is there already is not numbered again
  if command == 'XADD' and args[1] ~= '*' and not looked[key] then
    looked[key] = true
    local top = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
    if top and tonumber(string.match(top[1], '^(%d+)')) >= tonumber(string.match(args[1], '^(%d+)')) then
      return redis.error_reply('OUTDATED ' .. key .. ' already holds ' .. top[1])
    end
  end
  writes[i] = {command, key, args}
  at = at + 3 + #args
end
local trim = ARGV[at] == '1' and ARGV[at + 1]
no = trim and (refused('XINFO', 'GROUPS', KEYS[2]) or refused('XPENDING', KEYS[2], ARGV[5])
  or refused('XTRIM', KEYS[2], 'MINID', '~', '0-0'))
if no then return no end
local function number_of(id) return tonumber(string.match(id, '^%d+')), tonumber(string.match(id, '%d+$')) end
local function less(one, other)
  local ms, seq = number_of(one)
  local other_ms, other_seq = number_of(other)
  return ms < other_ms or (ms == other_ms and seq < other_seq)
end
-- the first entry that another group of the source has not acknowledged, if it is below `floor`
local function needed(floor)
  for _, told in ipairs(redis.call('XINFO', 'GROUPS', KEYS[2])) do
    local group = {}
    for i = 1, #told, 2 do group[told[i]] = told[i + 1] end
    if group['name'] ~= ARGV[5] then
      local first = group['last-delivered-id']
      if group['pending'] > 0 then first = redis.call('XPENDING', KEYS[2], group['name'])[2] end
      if less(first, floor) then floor = first end
    end
  end
  return floor
end
-- what a look beforehand cannot say is whether a stream takes another id: so appends come first,
-- those to feeds last, and are taken back where one of them is refused
local added = {}
local function append(to_feeds)
  for i = 1, count do
    local command, key, args = writes[i][1], writes[i][2], writes[i][3]
    if command == 'XADD' and (args[1] ~= '*') == to_feeds then
      local reply = redis.pcall('XADD', key, unpack(args))
      if type(reply) == 'table' then
        for j, id in pairs(added) do redis.call('XDEL', writes[j][2], id) end
        -- of a feed the owner has a wrong snapshot; another stream has come to its end
        local kind = to_feeds and 'OUTDATED ' or 'WRONGKIND '
        return redis.error_reply(kind .. key .. ' takes no such entry: ' .. (reply['err'] or ''))
      end
      added[i] = reply
    end
  end
end
no = append(false) or append(true)
if no then return no end
local ids = {}
for i = 1, count do ids[#ids + 1] = added[i] end
for i = 1, count do
  local command, key, args = writes[i][1], writes[i][2], writes[i][3]
  if command == 'PUBLISH' then
    -- a wake-up only: who is not told looks again soon
    redis.pcall('PUBLISH', unpack(args))
  elseif command ~= 'XADD' then
    redis.call(command, key, unpack(args))
  end
end
local last = nil
for from = at + 1, #ARGV, 1000 do
  local to = math.min(from + 999, #ARGV)
  redis.call('XACK', KEYS[2], ARGV[5], unpack(ARGV, from, to))
  last = ARGV[to]
end
if trim and last and source == 'stream' then
  redis.call('XTRIM', KEYS[2], 'MINID', '~', needed(last))
end
-- what was released from a list of blocked entries is older than what was worked off before it
if last and less(held[4] or '0-0', last) then
  redis.call('HSET', KEYS[1], done, last)
end
redis.call('HINCRBY', KEYS[1], 'sequence', 1)
return ids
