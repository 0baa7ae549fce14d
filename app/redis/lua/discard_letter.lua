-- flags: allow-oom
-- Throw a dead letter away. What its failure blocked goes on.
-- KEYS: dead letters, pins, failed event. ARGV: failed event id. Returns 1, or 0 when it is not dead.
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[3])
return 1
