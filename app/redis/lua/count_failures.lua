-- Count failures of a tool; queue one alert a window once there are enough.
-- KEYS: the tool's counter, due alerts, alerts.
-- ARGV: failures, window_ms, threshold (0: never), tool, tenant, stage, alert id, queue it (1 or 0).
-- Returns {failures in this window, 1 when the alert was raised now}. Times are Redis's.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local count = redis.call('HINCRBY', KEYS[1], 'failures', ARGV[1])
if count == tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
local threshold = tonumber(ARGV[3])
if threshold == 0 or count < threshold or redis.call('HSETNX', KEYS[1], 'raised', '1') == 0 then
  return {count, 0}
end
if ARGV[8] == '1' then
  redis.call('HSET', KEYS[3], ARGV[7], cjson.encode({
    tool_id = ARGV[4], tenant = ARGV[5], stage = ARGV[6], failures = count,
    window_ms = tonumber(ARGV[2]), at_ms = now, attempts = 0}))
  redis.call('ZADD', KEYS[2], string.format('%d', now), ARGV[7])
end
return {count, 1}
