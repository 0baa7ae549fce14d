-- Read what is new in several streams, each for the owner of its partition and for nobody else, as
-- read.lua does for one; what is wrong with one of them is told of that one.
-- KEYS: for each partition its lease, then streams. ARGV: group, consumer, count of entries a stream,
-- then for each partition: how many streams, epoch, nonce, the round of each stream.
-- Returns {number of the stream's key, entries or the error, number, …} of those that have something.
local reply, streams, places = {}, {}, {}
local function tell(place, what)
  reply[#reply + 1] = place
  reply[#reply + 1] = what
end
local key, arg = 1, 4
while key <= #KEYS do
  local count = tonumber(ARGV[arg])
  local fields = {'epoch', 'nonce'}
  for i = 1, count do fields[i + 2] = 'round:' .. KEYS[key + i] end
  local held = redis.call('HMGET', KEYS[key], unpack(fields))
  local fenced = held[1] ~= ARGV[arg + 1] or held[2] ~= ARGV[arg + 2]
  for i = 1, count do
    local place = key + i
    if fenced then
      tell(place, 'FENCED the lease is held by another owner')
    elseif held[i + 2] ~= ARGV[arg + 2 + i] then
      tell(place, 'OUTDATED what is pending has been read in another round')
    else
      streams[#streams + 1] = KEYS[place]
      places[KEYS[place]] = place
    end
  end
  key, arg = key + count + 1, arg + count + 3
end
local function read(names)
  local args = {'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', unpack(names)}
  for _ = 1, #names do args[#args + 1] = '>' end
  return redis.pcall('XREADGROUP', unpack(args))
end
local function read_or_tell(names)
  local found = read(names)
  if not found then return true end
  if not found['err'] then
    for _, stream in ipairs(found) do tell(places[stream[1]], stream[2]) end
    return true
  end
  if #names == 1 then tell(places[names[1]], found['err']) end
  return false
end
-- where one stream cannot be read nothing is, of none
if #streams > 0 and not read_or_tell(streams) and #streams > 1 then
  for _, stream in ipairs(streams) do read_or_tell({stream}) end
end
return reply
