-- flags: allow-oom
-- Take out of a partition's keys what was erased, as its owner: all of these writes, one after the other.
-- KEYS: lease, then every other key. ARGV: epoch, nonce, then (command, key number, number of arguments,
-- arguments…) each. Beside Redis's own: LSWAP index old new, which sets an item of a list that is still
-- the old one. Returns how many writes changed something.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return redis.error_reply('FENCED the lease is held by another owner')
end
local changed, at = 0, 3
while at <= #ARGV do
  local command, key, count = ARGV[at], KEYS[tonumber(ARGV[at + 1])], tonumber(ARGV[at + 2])
  local first = at + 3
  local reply
  if command == 'LSWAP' then
    reply = 0
    if redis.call('LINDEX', key, ARGV[first]) == ARGV[first + 1] then
      redis.call('LSET', key, ARGV[first], ARGV[first + 2])
      reply = 1
    end
  else
    reply = redis.call(command, key, unpack(ARGV, first, first + count - 1))
  end
  if type(reply) == 'table' or tonumber(reply) ~= 0 then changed = changed + 1 end
  at = first + count
end
return changed
