-- Keep the highest sequence number that a context's client has acknowledged.
-- KEYS: acks, seqs. ARGV: field, seq. Returns the number kept.
-- More than was ever sent is not believed: it would hide updates that are still to come.
local sent = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0')
local kept = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
local seq = math.min(tonumber(ARGV[2]), sent)
if seq > kept then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%d', seq))
  return seq
end
return kept
