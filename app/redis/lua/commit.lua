-- Commit one batch of one partition, or one step of its retry scheduler: all of it or none of it.
-- KEYS: lease, source stream, then every other key that is written to.
-- ARGV: epoch, nonce, channel, number of commits so far, group, trim the source below the last
--       acknowledged entry (1 or 0), number of writes, then (command, key index, number of arguments,
--       arguments…) each, then the acknowledged entry ids.
-- Returns the ids that XADD gave, in order.
-- Nothing rolls back in Redis: types, and rights where the server can say them, are checked before
-- the first write, and the acknowledgement comes last. What batches mostly end in has scripts of its
-- own, which look at less and so cost less: commit_appends.lua, commit_feeds.lua.
-- include: commit_begins
local wants = {XADD = 'stream', HSET = 'hash', HDEL = 'hash', ZADD = 'zset', ZREM = 'zset',
  RPUSH = 'list', LREM = 'list', RENAME = 'list', XTRIM = 'stream', XACK = 'stream', XDEL = 'stream'}
local count = tonumber(ARGV[7])
local at = 8
-- where each write's arguments begin
local starts = {}
local looked = {}
for i = 1, count do
  local command, key, first = ARGV[at], KEYS[tonumber(ARGV[at + 1])], at + 3
  local last = at + 2 + tonumber(ARGV[at + 2])
  local want = wants[command]
  if not looked[command] and command ~= 'PUBLISH' then
    looked[command] = true
    no = refused(command, key, unpack(ARGV, first, last))
    if no then return no end
  end
  if want and looked[key] ~= want then
    looked[key] = want
    no = wrong(key, want)
    if no then return no end
  end
  if command == 'RENAME' and redis.call('EXISTS', key) == 0 then
    return redis.error_reply('OUTDATED there is no ' .. key)
  end
  starts[i] = first
  at = last + 1
end
starts[count + 1] = at + 3
-- include: less
-- include: commit_ends
-- what a look beforehand cannot say is whether a stream takes another id: so appends come first,
-- those to feeds last, and are taken back where one of them is refused
local added = {}
local function append(to_feeds)
  for i = 1, count do
    local first = starts[i]
    if ARGV[first - 3] == 'XADD' and (ARGV[first] ~= '*') == to_feeds then
      local key = KEYS[tonumber(ARGV[first - 2])]
      local reply = redis.pcall('XADD', key, unpack(ARGV, first, starts[i + 1] - 4))
      if type(reply) == 'table' then
        for j, id in pairs(added) do redis.call('XDEL', KEYS[tonumber(ARGV[starts[j] - 2])], id) end
        -- a feed's entry ids are its sequence numbers: one that is there already is not numbered
        -- again, its owner has a wrong snapshot of it. Another stream has come to its end
        local kind = to_feeds and 'OUTDATED ' or 'WRONGKIND '
        return redis.error_reply(kind .. key .. ' takes no such entry: ' .. (reply['err'] or ''))
      end
      added[i] = reply
    end
  end
end
no = append(false) or append(true)
if no then return no end
-- a command before it may take the last of a key: in a slot of a cluster that is on the move Redis
-- does not look here for what is not there. Nothing is to be taken from it then
local takes = {HDEL = true, ZREM = true, LREM = true, DEL = true}
local ids = {}
for i = 1, count do
  local first, command = starts[i], ARGV[starts[i] - 3]
  if command == 'XADD' then
    ids[#ids + 1] = added[i]
  elseif command == 'PUBLISH' then
    -- a wake-up only: who is not told looks again soon
    redis.pcall('PUBLISH', unpack(ARGV, first, starts[i + 1] - 4))
  else
    local key = KEYS[tonumber(ARGV[first - 2])]
    local call = takes[command] and redis.pcall or redis.call
    local reply = call(command, key, unpack(ARGV, first, starts[i + 1] - 4))
    if type(reply) == 'table' and reply['err'] and not string.find(reply['err'], 'non local key', 1, true) then
      redis.call(command, key, unpack(ARGV, first, starts[i + 1] - 4))
    end
  end
end
finish(at)
return ids
