-- Prolong a lease that is still held: epoch and nonce must both be the caller's.
-- KEYS: lease. ARGV: epoch, nonce, ttl_ms (0 releases it). Returns 1, or 0 when it is another's.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return 0
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HSET', KEYS[1], 'expires_ms', string.format('%d', now + tonumber(ARGV[3])),
  'ttl_ms', ARGV[3])
return 1
