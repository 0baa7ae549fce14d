-- Say that a worker lives, and hear who else does.
-- KEYS: workers. ARGV: worker, ttl_ms (0 leaves). Returns {now in ms, worker, worker, …}.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if tonumber(ARGV[2]) > 0 then
  redis.call('ZADD', KEYS[1], string.format('%d', now + tonumber(ARGV[2])), ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%d', now))
local reply = redis.call('ZRANGE', KEYS[1], 0, -1)
table.insert(reply, 1, now)
return reply
