-- Write down the generations of a partition's feeds, by its owner.
-- KEYS: lease. ARGV: epoch, nonce, generations ("generation:first-number …"). Returns 1.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return redis.error_reply('FENCED the lease is held by another owner')
end
redis.call('HSET', KEYS[1], 'generations', ARGV[3])
return 1
