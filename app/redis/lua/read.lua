-- Read for the owner of a partition, and for nobody else: a read makes entries pending, so a worker
-- that has lost its lease must not do it.
-- A read whose reply was given up may still be carried out later, after its reader has looked at
-- what is pending: what it took would be seen by nobody. So every look begins a new round, and a
-- read for new entries counts in its own round only.
-- KEYS: lease, stream. ARGV: epoch, nonce, group, consumer, count, id ('>' for new entries, else
-- the consumer's own pending entries after it), round. Returns {id, {field, value, …}} each.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return redis.error_reply('FENCED the lease is held by another owner')
end
local field = 'round:' .. KEYS[2]
if ARGV[6] ~= '>' then
  redis.call('HSET', KEYS[1], field, ARGV[7])
elseif redis.call('HGET', KEYS[1], field) ~= ARGV[7] then
  return redis.error_reply('OUTDATED what is pending has been read in another round')
end
local reply = redis.call('XREADGROUP', 'GROUP', ARGV[3], ARGV[4], 'COUNT', ARGV[5], 'STREAMS', KEYS[2], ARGV[6])
if not reply then
  return {}
end
return reply[1][2]
