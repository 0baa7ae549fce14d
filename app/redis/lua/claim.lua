-- flags: allow-oom
-- Take a partition's lease if it is free, lapsed, or already this owner's.
-- KEYS: lease. ARGV: owner, nonce, ttl_ms.
-- `left_by` then names who had it before ("owner nonce") and has not given it back; '' where nobody.
-- Returns {1, epoch, field, value, …} with what the lease holds, or {0, owner, ms left}.
-- Time is Redis's own, so workers' clocks do not matter. Where it has stepped back no lease has more
-- left than it was ever given: its owner, if it lives, renews it long before that is over.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local held = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'expires_ms', 'ttl_ms', 'nonce')
local left = (tonumber(held[3] or '0') or 0) - now
if left > 0 and held[1] ~= ARGV[1] then
  local most = math.max(tonumber(held[4] or '0') or 0, tonumber(ARGV[3]))
  if left > most then
    redis.call('HSET', KEYS[1], 'expires_ms', string.format('%d', now + most))
    left = most
  end
  return {0, held[1], left}
end
local epoch = (tonumber(held[2] or '0') or 0) + 1
local left_by = ''
if held[1] and held[4] ~= '0' then left_by = held[1] .. ' ' .. (held[5] or '') end
redis.call('HSET', KEYS[1], 'left_by', left_by, 'owner', ARGV[1], 'epoch', epoch, 'nonce', ARGV[2],
  'ttl_ms', ARGV[3], 'expires_ms', string.format('%d', now + tonumber(ARGV[3])))
local reply = {1, epoch}
for _, part in ipairs(redis.call('HGETALL', KEYS[1])) do
  reply[#reply + 1] = part
end
return reply
