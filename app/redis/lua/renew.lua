-- flags: allow-oom
-- Prolong a lease that is still held: epoch and nonce must both be the caller's.
-- KEYS: lease. ARGV: epoch, nonce, ttl_ms (0 releases it), and, of what is not released, how many
-- commits the owner has seen done. Returns 1; 0 when it is another's; -1 when Redis has had fewer
-- commits: it has lost data, and nobody may take this owner for one that has looked at what is here.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce', 'sequence')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return 0
end
if ARGV[4] and (tonumber(held[3] or '0') or 0) < tonumber(ARGV[4]) then
  return -1
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HSET', KEYS[1], 'expires_ms', string.format('%d', now + tonumber(ARGV[3])),
  'ttl_ms', ARGV[3])
return 1
