-- Commit one batch of one partition: all of it or none of it.
-- KEYS: lease, source stream, then every stream appended to.
-- ARGV: epoch, nonce, group,
--       number of appends, then (key index, value) each,
--       trim source below the last acknowledged entry (1 or 0),
--       then the acknowledged entry ids.
-- Returns the ids of the appends; none when the batch was committed before and only the reply was
-- lost. A stale owner gets FENCED and changes nothing.
-- Nothing rolls back in Redis: types are checked before the first write, and the
-- acknowledgement comes last, so that a failure half way leaves the batch pending.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return redis.error_reply('FENCED the lease is held by another owner')
end
for i = 2, #KEYS do
  local kind = redis.call('TYPE', KEYS[i])['ok']
  if kind ~= 'stream' and kind ~= 'none' then
    return redis.error_reply('WRONGKIND ' .. KEYS[i] .. ' is a ' .. kind .. ', not a stream')
  end
end
local newest = ARGV[#ARGV]
if #redis.call('XPENDING', KEYS[2], ARGV[3], newest, newest, 1) == 0 then
  return {}
end
local at = 5
local ids = {}
for i = 1, tonumber(ARGV[4]) do
  ids[i] = redis.call('XADD', KEYS[tonumber(ARGV[at])], '*', 'd', ARGV[at + 1])
  at = at + 2
end
local trim = ARGV[at]
local last = nil
for from = at + 1, #ARGV, 1000 do
  local to = math.min(from + 999, #ARGV)
  redis.call('XACK', KEYS[2], ARGV[3], unpack(ARGV, from, to))
  last = ARGV[to]
end
if trim == '1' and last then
  redis.call('XTRIM', KEYS[2], 'MINID', '~', last)
end
return ids
