-- Let a dead letter be tried again now; its history stays.
-- KEYS: dead letters, retries, failed event. ARGV: failed event id. Returns 1, or 0 when it is not dead.
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then
  return 0
end
local t = redis.call('TIME')
local now = string.format('%d', t[1] * 1000 + math.floor(t[2] / 1000))
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('HSET', KEYS[3], 'state', 'retrying', 'due_ms', now)
return 1
