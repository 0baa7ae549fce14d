-- Read for the owner of a partition, and for nobody else: a read makes entries pending, so a worker
-- that has lost its lease must not do it.
-- KEYS: lease, stream. ARGV: epoch, nonce, group, consumer, count, id ('>' for new entries, else
-- the consumer's own pending entries after it). Returns {id, {field, value, …}} each.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return redis.error_reply('FENCED the lease is held by another owner')
end
local reply = redis.call('XREADGROUP', 'GROUP', ARGV[3], ARGV[4], 'COUNT', ARGV[5], 'STREAMS', KEYS[2], ARGV[6])
if not reply then
  return {}
end
return reply[1][2]
