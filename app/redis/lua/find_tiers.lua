-- flags: no-writes
-- Where entries of a partition's events are: in their stream, or in which warm block.
-- KEYS: stream, then indexes of warm blocks. ARGV: for each entry its id and the number of its tool's
-- index among the keys. Returns for each entry 1 (in the stream), or the members of the index whose
-- blocks may have it: one, but for what only became readable when others had moved.
local reply = {}
-- include: less
for i = 1, #ARGV, 2 do
  local id, found = ARGV[i], {}
  if #redis.call('XRANGE', KEYS[1], id, id) > 0 then
    found = 1
  else
    local index = KEYS[tonumber(ARGV[i + 1])]
    local ms = string.match(id, '^(%d+)-')
    local function look(members)
      for _, member in ipairs(members) do
        local first, last = string.match(member, '^([^:]+):([^:]+):')
        if not less(id, first) and not less(last, id) then found[#found + 1] = member end
      end
    end
    -- many may end in one millisecond (a clock that stands), in any order; behind it the next few do
    look(redis.call('ZRANGEBYSCORE', index, ms, ms))
    look(redis.call('ZRANGEBYSCORE', index, '(' .. ms, '+inf', 'LIMIT', 0, 16))
  end
  reply[#reply + 1] = found
end
return reply
