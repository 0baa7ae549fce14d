-- Claim check: keep a large payload beside its stream and append the entry that refers to it, both
-- or none.
-- KEYS: stream, blob. ARGV: the entry's value, the payload, then (field, value) of the entry's other
-- fields. Returns the entry's id.
local kind = redis.call('TYPE', KEYS[1])['ok']
if kind ~= 'stream' and kind ~= 'none' then
  return redis.error_reply('WRONGKIND ' .. KEYS[1] .. ' is a ' .. kind .. ', not a stream')
end
redis.call('SET', KEYS[2], ARGV[2])
return redis.call('XADD', KEYS[1], '*', 'd', ARGV[1], unpack(ARGV, 3))
