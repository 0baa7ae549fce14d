-- flags: allow-oom
-- Let the oldest updates of a feed go, and say so where whoever comes for them looks.
-- KEYS: lease, feed, trimmed, then lists of what digests among them stand for.
-- ARGV: epoch, nonce, field of the context, its oldest number, the highest number that goes.
-- Returns how many went; 0 where the feed does not begin as was seen: somebody else has been there.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return redis.error_reply('FENCED the lease is held by another owner')
end
local first = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
if not first or string.match(first[1], '^(%d+)') ~= ARGV[4] then return 0 end
-- of the wrong kind it is refused before anything is written
local before = tonumber(redis.call('HGET', KEYS[3], ARGV[3]) or '0') or 0
if tonumber(ARGV[5]) > before then redis.call('HSET', KEYS[3], ARGV[3], ARGV[5]) end
local went = redis.call('XTRIM', KEYS[2], 'MINID', string.format('%d', tonumber(ARGV[5]) + 1))
for i = 4, #KEYS do redis.call('UNLINK', KEYS[i]) end
return went
