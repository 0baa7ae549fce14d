-- flags: allow-oom
-- Throw a dead letter away whose time is over, as the owner of its partition. It stays where it was
-- tried again meanwhile.
-- KEYS: lease, dead letters, pins, failed event. ARGV: epoch, nonce, failed event id, the time (ms) up to
-- which letters go. Returns {} or {tool, stage}.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return redis.error_reply('FENCED the lease is held by another owner')
end
local failed_ms = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[3]) or '')
if not failed_ms or failed_ms > tonumber(ARGV[4]) then return {} end
local letter = redis.call('HMGET', KEYS[4], 'tool_id', 'stage')
redis.call('ZREM', KEYS[2], ARGV[3])
redis.call('HDEL', KEYS[3], ARGV[3])
redis.call('DEL', KEYS[4])
return {letter[1] or '', letter[2] or ''}
