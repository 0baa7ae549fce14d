-- Keep the highest sequence number that a context's client has acknowledged, and when.
-- KEYS: acks, seqs, times of acknowledgements (by number). ARGV: field, seq, how many times to keep.
-- Returns the number kept.
-- More than was ever sent is not believed: it would hide updates that are still to come.
local sent = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0')
local kept = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
local seq = math.min(tonumber(ARGV[2]), sent)
if seq > kept then
  local t = redis.call('TIME')
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%d', seq))
  redis.call('ZADD', KEYS[3], seq, string.format('%d:%d', seq, t[1] * 1000 + math.floor(t[2] / 1000)))
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - tonumber(ARGV[3]))
  return seq
end
return kept
