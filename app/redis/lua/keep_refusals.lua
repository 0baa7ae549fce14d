-- Keep refused webhooks of one tool: so many, so many bytes, for so long; the oldest go first.
-- KEYS: stream. ARGV: most_bytes, most_entries, kept_ms, then (facts, headers, body) of each one.
-- Field n counts the bytes of all that ever were in the stream, up to and with its entry: what two
-- entries differ by lies between them, and nothing has to be read to know how much is there.
-- Returns how many there are now.
local key, most = KEYS[1], tonumber(ARGV[1])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function size(facts, headers, body) return #facts + #headers + #body + 100 end
local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
local bytes = last and tonumber(last[2][2]) or 0
for i = 4, #ARGV, 3 do
  bytes = bytes + size(ARGV[i], ARGV[i + 1], ARGV[i + 2])
  redis.call('XADD', key, 'MAXLEN', ARGV[2], '*', 'n', string.format('%d', bytes),
    'r', ARGV[i], 'h', ARGV[i + 1], 'b', ARGV[i + 2])
end
redis.call('XTRIM', key, 'MINID', string.format('%d', now - tonumber(ARGV[3])))
while true do
  local first = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  if not first then break end
  local fields = first[2]
  if bytes - tonumber(fields[2]) + size(fields[4], fields[6], fields[8]) <= most then break end
  redis.call('XDEL', key, first[1])
end
redis.call('PEXPIRE', key, ARGV[3])
return redis.call('XLEN', key)
