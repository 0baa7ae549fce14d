-- flags: allow-oom
-- Delete warm blocks of a tool whose events are kept further on, or may go.
-- KEYS: lease, index, tools, then blocks. ARGV: epoch, nonce, the tool's member of the tools, then the
-- blocks' members of the index. Returns how many were deleted.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return redis.error_reply('FENCED the lease is held by another owner')
end
for i = 4, #KEYS do redis.call('UNLINK', KEYS[i]) end
local dropped = 0
if #ARGV > 3 then dropped = redis.call('ZREM', KEYS[2], unpack(ARGV, 4)) end
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('SREM', KEYS[3], ARGV[3]) end
return dropped
