-- Note how far feeds of a partition have come, as its owner.
-- KEYS: lease, marks. ARGV: epoch, nonce, then (field, marks) of each. Returns how many.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return redis.error_reply('FENCED the lease is held by another owner')
end
redis.call('HSET', KEYS[2], unpack(ARGV, 3))
return (#ARGV - 2) / 2
