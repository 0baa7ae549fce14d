-- What every commit ends with: the entries in ARGV from `from` on are acknowledged, the source is
-- trimmed below the last of them (not what another group needs), the sequence of commits is counted up.
-- How far a stream has been worked off is kept beside the sequence: a group that is lost begins there.
-- the first entry that another group of the source has not acknowledged, if it is below `floor`
local function needed(floor)
  for _, told in ipairs(redis.call('XINFO', 'GROUPS', KEYS[2])) do
    local group = {}
    for i = 1, #told, 2 do group[told[i]] = told[i + 1] end
    if group['name'] ~= ARGV[5] then
      local first = group['last-delivered-id']
      if group['pending'] > 0 then first = redis.call('XPENDING', KEYS[2], group['name'])[2] end
      if less(first, floor) then floor = first end
    end
  end
  return floor
end
local function finish(from)
  for first = from, #ARGV, 1000 do
    redis.call('XACK', KEYS[2], ARGV[5], unpack(ARGV, first, math.min(first + 999, #ARGV)))
  end
  local last = from <= #ARGV and ARGV[#ARGV]
  if last and trim and source == 'stream' then
    redis.call('XTRIM', KEYS[2], 'MINID', '~', needed(last))
  end
  local sequence = string.format('%d', tonumber(ARGV[4]) + 1)
  -- what was released from a list of blocked entries is older than what was worked off before it
  if last and less(held[4] or '0-0', last) then
    redis.call('HSET', KEYS[1], 'sequence', sequence, done, last)
  else
    redis.call('HSET', KEYS[1], 'sequence', sequence)
  end
end
