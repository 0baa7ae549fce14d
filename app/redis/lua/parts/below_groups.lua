-- Whether every group of a stream is through with its entries.
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
