-- flags: allow-oom
-- Say that the owner has compared a partition with what is remembered of it elsewhere, and of which
-- generations its feeds are.
-- KEYS: lease. ARGV: epoch, nonce, generations ("generation:first-number …"), and the number of its
-- commits where that was forgotten. Returns 1.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return redis.error_reply('FENCED the lease is held by another owner')
end
redis.call('HSET', KEYS[1], 'generations', ARGV[3], 'settled', ARGV[2])
if ARGV[4] then
  redis.call('HSET', KEYS[1], 'sequence', ARGV[4])
end
return 1
