-- Append entries to one stream, all of them or none.
-- KEYS: stream. ARGV: the entries' values. Returns how many.
local kind = redis.call('TYPE', KEYS[1])['ok']
if kind ~= 'stream' and kind ~= 'none' then
  return redis.error_reply('WRONGKIND ' .. KEYS[1] .. ' is a ' .. kind .. ', not a stream')
end
for i = 1, #ARGV do
  redis.call('XADD', KEYS[1], '*', 'd', ARGV[i])
end
return #ARGV
