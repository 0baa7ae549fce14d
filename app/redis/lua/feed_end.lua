-- flags: no-writes
-- How far a context's feed has come for those who read it, and whether its owner has looked at it.
-- KEYS: lease, feed, seqs. ARGV: the context's field in seqs, ms after which an owner is not heard of.
-- Returns {generations, last sequence number, settled (1 or 0), ms at which the lease was renewed}.
-- Settled: the owner of now has compared what is here with what is remembered. Until then (Redis has
-- come back with less, say) numbers that are missing here say nothing.
local lease = redis.call('HMGET', KEYS[1], 'generations', 'nonce', 'settled', 'expires_ms', 'ttl_ms')
local seq = tonumber(redis.call('HGET', KEYS[3], ARGV[1]) or '0') or 0
if redis.call('TYPE', KEYS[2])['ok'] == 'stream' then
  local info = redis.call('XINFO', 'STREAM', KEYS[2])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      seq = math.max(seq, tonumber(string.match(info[i + 1], '^(%d+)')))
    end
  end
end
local t = redis.call('TIME')
local renewed = (tonumber(lease[4] or '0') or 0) - (tonumber(lease[5] or '0') or 0)
local heard = t[1] * 1000 + math.floor(t[2] / 1000) - renewed < tonumber(ARGV[2])
return {lease[1] or '', seq, (heard and lease[2] and lease[2] == lease[3]) and 1 or 0, renewed}
