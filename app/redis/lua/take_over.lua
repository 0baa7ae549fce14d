-- Make the group where it is missing, and take a page of what other consumers left pending.
-- KEYS: lease, stream. ARGV: epoch, nonce, group, consumer, cursor, start of a new group.
-- Returns {next cursor ("0-0" at the end), the group's last delivered id}. Fenced: a worker that
-- has lost its lease must not take entries away from the one that has it.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return redis.error_reply('FENCED the lease is held by another owner')
end
local last = nil
if redis.call('EXISTS', KEYS[2]) == 1 then
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[2])) do
    if group[2] == ARGV[3] then
      for i = 1, #group, 2 do
        if group[i] == 'last-delivered-id' then last = group[i + 1] end
      end
    end
  end
end
if not last then
  redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[3], ARGV[6], 'MKSTREAM')
  return {'0-0', ARGV[6]}
end
local page = redis.call('XAUTOCLAIM', KEYS[2], ARGV[3], ARGV[4], 0, ARGV[5], 'COUNT', 1000, 'JUSTID')
return {page[1], last}
