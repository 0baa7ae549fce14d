-- Whether every group of a stream is through with its entries.
local function less(one, other)
  local ms, seq = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_seq = string.match(other, '^(%d+)-(%d+)$')
  if ms ~= other_ms then return tonumber(ms) < tonumber(other_ms) end
  return tonumber(seq) < tonumber(other_seq)
end
-- Whether every group of a stream has acknowledged everything up to `last`.
local function is_done(stream, last)
  for _, told in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local group = {}
    for i = 1, #told, 2 do group[told[i]] = told[i + 1] end
    if less(group['last-delivered-id'], last) then return false end
    if group['pending'] > 0 and not less(last, redis.call('XPENDING', stream, group['name'])[2]) then
      return false
    end
  end
  return true
end
