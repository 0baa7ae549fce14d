-- Append entries that may have been appended before to one stream, all of them or none.
-- KEYS: stream. ARGV: the value of each, and for how long it has been in doubt (ms; "" where it is
-- in none). Returns their ids.
local kind = redis.call('TYPE', KEYS[1])['ok']
if kind ~= 'stream' and kind ~= 'none' then
  return redis.error_reply('WRONGKIND ' .. KEYS[1] .. ' is a ' .. kind .. ', not a stream')
end
local ids = {}
for i = 1, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    ids[#ids + 1] = redis.call('XADD', KEYS[1], '*', 'd', ARGV[i])
  else
    ids[#ids + 1] = redis.call('XADD', KEYS[1], '*', 'd', ARGV[i], 'u', ARGV[i + 1])
  end
end
return ids
