-- Take the next alert that is due, for as long as a sender may need.
-- KEYS: due alerts, alerts. ARGV: lease_ms. Returns {} or {id, alert, now in ms}.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local id = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%d', now), 'LIMIT', 0, 1)[1]
if not id then return {} end
redis.call('ZADD', KEYS[1], string.format('%d', now + tonumber(ARGV[1])), id)
return {id, redis.call('HGET', KEYS[2], id) or '', now}
