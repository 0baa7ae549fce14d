-- flags: allow-oom
-- Say that a worker lives, what it cannot do, what it can read and which catalog it has; hear who
-- else does.
-- KEYS: workers, their notes, what they read, their catalogs. ARGV: worker, ttl_ms (0: it takes no
-- partitions), note ('' for none), the newest version of entries that it reads, its catalog.
-- Returns {now in ms, the newest version that all read (0: one does not say), worker, note, worker,
-- note, …} of those that take partitions.
-- Where Redis's clock has stepped back nobody lives longer than a few times what a worker is given:
-- who is alive says so again long before.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local ttl = tonumber(ARGV[2])
if ttl > 0 then
  redis.call('ZADD', KEYS[1], string.format('%d', now + ttl), ARGV[1])
  for _, late in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%d', now + 4 * ttl), '+inf')) do
    redis.call('ZADD', KEYS[1], string.format('%d', now + ttl), late)
  end
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[2], ARGV[1])
else
  redis.call('HSET', KEYS[2], ARGV[1], string.format('%d %s', now, ARGV[3]))
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%d', now))
local notes = {}
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  local at, note = string.match(all[i + 1], '^(%d+) (.*)$')
  if at and math.abs(now - tonumber(at)) < 60000 then
    notes[all[i]] = note
  else
    -- of a worker that says nothing any more
    redis.call('HDEL', KEYS[2], all[i])
  end
end
local workers = redis.call('ZRANGE', KEYS[1], 0, -1)
redis.call('HSET', KEYS[3], ARGV[1], ARGV[4])
redis.call('HSET', KEYS[4], ARGV[1], ARGV[5])
local reads = {}
all = redis.call('HGETALL', KEYS[3])
for i = 1, #all, 2 do
  reads[all[i]] = tonumber(all[i + 1])
end
local least = tonumber(ARGV[4])
local reply = {now, least}
for _, worker in ipairs(workers) do
  least = math.min(least, reads[worker] or 0)
  reads[worker] = nil
  reply[#reply + 1] = worker
  reply[#reply + 1] = notes[worker] or ''
end
reply[2] = least
for gone in pairs(reads) do
  redis.call('HDEL', KEYS[3], gone)
  redis.call('HDEL', KEYS[4], gone)
end
return reply
