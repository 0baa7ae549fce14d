-- flags: allow-oom
-- Put a warm block of fewer events in place of one, or none ('').
-- KEYS: lease, index, tools, block. ARGV: epoch, nonce, the tool's member of the tools, the block's member
-- of the index, the block ('': it goes), its member then.
-- Returns 1, or 0 where the index has another block by now.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return redis.error_reply('FENCED the lease is held by another owner')
end
local score = redis.call('ZSCORE', KEYS[2], ARGV[4])
if not score then return 0 end
redis.call('ZREM', KEYS[2], ARGV[4])
if ARGV[5] == '' then
  redis.call('UNLINK', KEYS[4])
  if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('SREM', KEYS[3], ARGV[3]) end
else
  redis.call('SET', KEYS[4], ARGV[5])
  redis.call('ZADD', KEYS[2], score, ARGV[6])
end
return 1
