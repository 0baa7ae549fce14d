-- flags: allow-oom
-- Make the group where it is missing, and take a page of what other consumers left pending.
-- A group that was lost begins behind what commits have worked off, if this is still that stream.
-- After the death of whoever had it, the deaths of what was in hand are counted: of all that is pending,
-- or of that alone which it said was alone in hand.
-- KEYS: lease, stream, deaths. ARGV: epoch, nonce, group, consumer, cursor, start of a new group,
-- count deaths (1 or 0; from the second page on what the page before has returned).
-- Returns {next cursor ("0-0" at the end), the group's last delivered id, count deaths, at the end the
-- deaths as {name, number, …}}. Fenced: a worker that
-- has lost its lease must not take entries away from the one that has it.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return redis.error_reply('FENCED the lease is held by another owner')
end
local last = nil
local start = ARGV[6]
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
  local done = redis.call('HGET', KEYS[1], 'done:' .. KEYS[2])
  if done and redis.call('EXISTS', KEYS[2]) == 1 then
    local info = redis.call('XINFO', 'STREAM', KEYS[2])
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then
        local function number_of(id) return tonumber(string.match(id, '^%d+')), tonumber(string.match(id, '%d+$')) end
        local ms, seq = number_of(done)
        local top_ms, top_seq = number_of(info[i + 1])
        if ms < top_ms or (ms == top_ms and seq <= top_seq) then start = done end
      end
    end
  end
  redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[3], start, 'MKSTREAM')
  return {'0-0', start, '0', {}}
end
local count = ARGV[7]
local tried = ARGV[5] == '0-0' and redis.call('HGET', KEYS[3], 'tried')
if tried then
  if count == '1' then
    local how, names = string.match(tried, '^(%S+) (.+)$')
    for name in string.gmatch(names, '%S+') do
      redis.call('HINCRBY', KEYS[3], name, 1)
      if how == 'alone' then
        count = '0'
        if name == names then redis.call('HINCRBY', KEYS[3], 'alone:' .. name, 1) end
      end
    end
  end
  redis.call('HDEL', KEYS[3], 'tried')
end
local page = redis.call('XAUTOCLAIM', KEYS[2], ARGV[3], ARGV[4], 0, ARGV[5], 'COUNT', 1000, 'JUSTID')
if count == '1' then
  for _, id in ipairs(page[2]) do redis.call('HINCRBY', KEYS[3], id, 1) end
end
local deaths = {}
if page[1] == '0-0' then deaths = redis.call('HGETALL', KEYS[3]) end
return {page[1], last, count, deaths}
