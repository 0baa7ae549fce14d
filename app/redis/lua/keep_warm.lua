-- flags: allow-oom
-- Put a block of events in place of their entries, all of it or none of it.
-- KEYS: lease, stream, block, index, tools, then blobs that are in the block by now.
-- ARGV: epoch, nonce, block, its member of the index, its score, the tool's member of the tools, the
-- last entry up to which groups have to be through, then the entries. Without a block (''), of entries
-- that nobody looks for, they are deleted only.
-- Returns how many entries were deleted. More memory is given back than is taken: allowed over maxmemory.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return redis.error_reply('FENCED the lease is held by another owner')
end
-- include: less
-- include: below_groups
local function wrong(key, want)
  local kind = redis.call('TYPE', key)['ok']
  if kind ~= want and kind ~= 'none' then
    return redis.error_reply('WRONGKIND ' .. key .. ' is a ' .. kind .. ', not a ' .. want)
  end
end
local no = wrong(KEYS[2], 'stream') or wrong(KEYS[3], 'string') or wrong(KEYS[4], 'zset') or wrong(KEYS[5], 'set')
if no then return no end
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
if not is_done(KEYS[2], ARGV[7]) then return -1 end
if ARGV[3] ~= '' then
  redis.call('SET', KEYS[3], ARGV[3])
  redis.call('ZADD', KEYS[4], ARGV[5], ARGV[4])
  redis.call('SADD', KEYS[5], ARGV[6])
end
local deleted = 0
for first = 8, #ARGV, 1000 do
  deleted = deleted + redis.call('XDEL', KEYS[2], unpack(ARGV, first, math.min(first + 999, #ARGV)))
end
for i = 6, #KEYS do redis.call('UNLINK', KEYS[i]) end
return deleted
