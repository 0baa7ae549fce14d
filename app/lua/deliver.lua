-- Commit one batch of updates[q] to the feeds of its contexts: all of it or none of it.
-- KEYS: lease, updates stream, audit stream, origins, seqs, then every feed.
-- ARGV: epoch, nonce, group, audit value ('' for none),
--       number of feeds, then (seq field, expected last seq, pub/sub channel) each,
--       number of feed entries, then (feed index, body) each,
--       number of origins, then (partition, entry id) each,
--       then the acknowledged entry ids.
-- The caller computed each seq from the expected last one; if a feed has moved since, it gets
-- OUTDATED and nothing is written. A feed entry's id is seq-0, so a gap or a double cannot be stored.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return redis.error_reply('FENCED the lease is held by another owner')
end
for i = 2, #KEYS do
  local kind = redis.call('TYPE', KEYS[i])['ok']
  local want = (i == 4 or i == 5) and 'hash' or 'stream'
  if kind ~= want and kind ~= 'none' then
    return redis.error_reply('WRONGKIND ' .. KEYS[i] .. ' is a ' .. kind .. ', not a ' .. want)
  end
end
local newest = ARGV[#ARGV]
if #redis.call('XPENDING', KEYS[2], ARGV[3], newest, newest, 1) == 0 then
  return redis.error_reply('OUTDATED the batch was committed before')
end
local feeds = tonumber(ARGV[5])
local seq = {}
for i = 1, feeds do
  local at = 6 + (i - 1) * 3
  local last = redis.call('HGET', KEYS[5], ARGV[at]) or '0'
  if last ~= ARGV[at + 1] then
    return redis.error_reply('OUTDATED ' .. KEYS[5 + i] .. ' is at ' .. last .. ', not ' .. ARGV[at + 1])
  end
  local top = redis.call('XREVRANGE', KEYS[5 + i], '+', '-', 'COUNT', 1)[1]
  if top and tonumber(string.match(top[1], '^(%d+)-')) > tonumber(last) then
    return redis.error_reply('OUTDATED ' .. KEYS[5 + i] .. ' already holds ' .. top[1])
  end
  seq[i] = tonumber(last)
end
local at = 6 + feeds * 3
local entries = tonumber(ARGV[at])
at = at + 1
for _ = 1, entries do
  local f = tonumber(ARGV[at])
  seq[f] = seq[f] + 1
  redis.call('XADD', KEYS[5 + f], string.format('%d-0', seq[f]), 'd', ARGV[at + 1])
  at = at + 2
end
for i = 1, feeds do
  redis.call('HSET', KEYS[5], ARGV[6 + (i - 1) * 3], string.format('%d', seq[i]))
end
local origins = tonumber(ARGV[at])
at = at + 1
for _ = 1, origins do
  redis.call('HSET', KEYS[4], ARGV[at], ARGV[at + 1])
  at = at + 2
end
if ARGV[4] ~= '' then
  redis.call('XADD', KEYS[3], '*', 'd', ARGV[4])
end
local last = nil
for from = at, #ARGV, 1000 do
  local to = math.min(from + 999, #ARGV)
  redis.call('XACK', KEYS[2], ARGV[3], unpack(ARGV, from, to))
  last = ARGV[to]
end
if last then
  redis.call('XTRIM', KEYS[2], 'MINID', '~', last)
end
for i = 1, feeds do
  redis.call('PUBLISH', ARGV[8 + (i - 1) * 3], string.format('%d', seq[i]))
end
return redis.status_reply('OK')
