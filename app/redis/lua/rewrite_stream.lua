-- Put a stream together anew without some of its entries, or with others in their place: an entry
-- that XDEL has deleted stays in memory and in every file until its neighbours go, too.
-- Called for one part of the stream after the other. The last part takes what came meanwhile along,
-- then the copy takes the stream's place, with its groups, what they have pending, its last id and
-- its time to live. Who crashes in between leaves a copy that the next one begins anew.
-- KEYS: lease, stream, copy. ARGV: epoch (with a nonce of '' as well: a stream of no partition),
-- nonce, the entry behind which this part begins ('0-0': at the beginning), the last one of it ('+': all
-- there is), then (entry, what its field d is to be; '' to leave it out) each.
-- Returns how many entries the copy has by now; -1 where there is no stream.
if ARGV[1] ~= '' then
  local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
  if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
    return redis.error_reply('FENCED the lease is held by another owner')
  end
end
local kind = redis.call('TYPE', KEYS[2])['ok']
if kind == 'none' then
  redis.call('UNLINK', KEYS[3])
  return -1
end
if kind ~= 'stream' then
  return redis.error_reply('WRONGKIND ' .. KEYS[2] .. ' is a ' .. kind .. ', not a stream')
end
if ARGV[3] == '0-0' then redis.call('UNLINK', KEYS[3]) end
local instead = {}
for i = 5, #ARGV, 2 do instead[ARGV[i]] = ARGV[i + 1] end
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '(' .. ARGV[3], ARGV[4])) do
  local id, fields, data = entry[1], entry[2], instead[entry[1]]
  if data ~= '' then
    if data then
      for i = 1, #fields, 2 do
        if fields[i] == 'd' then fields[i + 1] = data end
      end
    end
    redis.call('XADD', KEYS[3], id, unpack(fields))
  end
end
if ARGV[4] ~= '+' then return redis.call('XLEN', KEYS[3]) end
local function told(list)
  local found = {}
  for i = 1, #list, 2 do found[list[i]] = list[i + 1] end
  return found
end
local last = told(redis.call('XINFO', 'STREAM', KEYS[2]))['last-generated-id']
-- what was trimmed meanwhile stays away
local first = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
if first then redis.call('XTRIM', KEYS[3], 'MINID', first[1]) end
if redis.call('EXISTS', KEYS[3]) == 0 then
  redis.call('XGROUP', 'CREATE', KEYS[3], 'erasing', '0', 'MKSTREAM')
  redis.call('XGROUP', 'DESTROY', KEYS[3], 'erasing')
end
redis.call('XSETID', KEYS[3], last)
for _, list in ipairs(redis.call('XINFO', 'GROUPS', KEYS[2])) do
  local group = told(list)
  redis.call('XGROUP', 'CREATE', KEYS[3], group['name'], group['last-delivered-id'])
  local from = '-'
  while group['pending'] > 0 do
    local page = redis.call('XPENDING', KEYS[2], group['name'], from, '+', 1000)
    for _, one in ipairs(page) do
      if #redis.call('XRANGE', KEYS[3], one[1], one[1]) > 0 then
        redis.call('XCLAIM', KEYS[3], group['name'], one[2], 0, one[1], 'RETRYCOUNT', one[4], 'FORCE', 'JUSTID')
      end
    end
    if #page < 1000 then break end
    from = '(' .. page[#page][1]
  end
end
local ttl = redis.call('PTTL', KEYS[2])
local left = redis.call('XLEN', KEYS[3])
redis.call('RENAME', KEYS[3], KEYS[2])
if ttl > 0 then redis.call('PEXPIRE', KEYS[2], ttl) end
return left
