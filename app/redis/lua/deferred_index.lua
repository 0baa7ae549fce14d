-- flags: no-writes
-- What deferred updates are about, without the updates themselves, which may be large.
-- KEYS: stream. ARGV: start, count. Returns {entry id, index ('' where there is none), …}.
local reply = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])) do
  local index = ''
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'k' then index = entry[2][i + 1] end
  end
  reply[#reply + 1] = entry[1]
  reply[#reply + 1] = index
end
return reply
