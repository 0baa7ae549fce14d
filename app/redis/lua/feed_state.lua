-- flags: no-writes
-- How far a context's feed has come, and how many of its updates are throttled, by what is there.
-- KEYS: feed, list of throttled updates, seqs. ARGV: the context's field in seqs.
-- Returns {last sequence number, throttled updates}.
-- The number that was written down and the feed itself say the same; where one of them was lost,
-- the other one counts: no number is given twice.
local seq = tonumber(redis.call('HGET', KEYS[3], ARGV[1]) or '0') or 0
if redis.call('TYPE', KEYS[1])['ok'] == 'stream' then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      seq = math.max(seq, tonumber(string.match(info[i + 1], '^(%d+)')))
    end
  end
end
return {seq, redis.call('LLEN', KEYS[2])}
