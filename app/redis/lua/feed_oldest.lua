-- flags: no-writes
-- The oldest updates of a feed, without what they say.
-- KEYS: feed. ARGV: how many at most.
-- Returns {how many updates there are, number, 1 or 0, number, …}: 1 where one may be a digest, which
-- has a list of what it stands for. Who is wrongly taken for one has none.
local kind = redis.call('TYPE', KEYS[1])['ok']
if kind == 'none' then return {0} end
local reply = {redis.call('XLEN', KEYS[1])}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[1])) do
  reply[#reply + 1] = tonumber(string.match(entry[1], '^(%d+)'))
  local body = entry[2][2] or ''
  reply[#reply + 1] = string.find(body, '"kind":"digest"', 1, true) and 1 or 0
end
return reply
