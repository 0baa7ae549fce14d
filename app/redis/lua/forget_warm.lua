-- flags: allow-oom
-- Delete warm blocks of a tool of a tenant that is being deleted, whoever owns their partition: a block
-- that its owner makes at the same time is in the index before or after, and is found by the next look.
-- KEYS: index, tools, then blocks. ARGV: the tool's member of the tools, then the blocks' members of the
-- index. Returns how many were deleted.
for i = 3, #KEYS do redis.call('UNLINK', KEYS[i]) end
local dropped = 0
if #ARGV > 1 then dropped = redis.call('ZREM', KEYS[1], unpack(ARGV, 2)) end
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('SREM', KEYS[2], ARGV[1]) end
return dropped
