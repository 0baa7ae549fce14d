-- flags: allow-oom
-- Keep the highest sequence number that a context's client has acknowledged, and when.
-- KEYS: acks, seqs, times of acknowledgements (by number), feed. ARGV: field, seq, how many times to
-- keep.
-- Returns the number kept, or -1: more than was ever sent would hide updates that are still to come.
local sent = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0')
local kept = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
local seq = tonumber(ARGV[2])
if seq > sent and redis.call('TYPE', KEYS[4])['ok'] == 'stream' then
  -- what was written down may have been lost: the feed itself says the same
  local info = redis.call('XINFO', 'STREAM', KEYS[4])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then sent = tonumber(string.match(info[i + 1], '^(%d+)')) end
  end
end
if seq > sent then return -1 end
if seq > kept then
  local t = redis.call('TIME')
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%d', seq))
  redis.call('ZADD', KEYS[3], seq, string.format('%d:%d', seq, t[1] * 1000 + math.floor(t[2] / 1000)))
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - tonumber(ARGV[3]))
  return seq
end
return kept
