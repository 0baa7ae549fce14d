-- flags: allow-oom
-- Say what is worked on next that may kill its worker, or that it is over.
-- KEYS: lease, deaths. ARGV: epoch, nonce, what ("alone" or "beside" and the entries' names; '' for
-- nothing; '-' where all counted entries are committed). Returns 1.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return redis.error_reply('FENCED the lease is held by another owner')
end
if ARGV[3] == '-' then
  redis.call('DEL', KEYS[2])
elseif ARGV[3] == '' then
  redis.call('HDEL', KEYS[2], 'tried')
else
  redis.call('HSET', KEYS[2], 'tried', ARGV[3])
end
return 1
