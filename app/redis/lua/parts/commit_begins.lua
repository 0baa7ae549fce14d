-- What every commit begins with: fencing, and looks that write nothing.
-- KEYS: lease, source stream. ARGV: epoch, nonce, channel, number of commits so far, group, trim (1
-- or 0).
-- A stale owner gets FENCED. An owner whose snapshot of the partition is not what Redis has (a reply
-- was lost, or Redis lost its tail in a failover) gets OUTDATED and must read everything again.
-- There is one sequence of commits a partition, for they all change what the others rely on.
local done = 'done:' .. KEYS[2]
local held = redis.call('HMGET', KEYS[1], 'epoch', 'nonce', 'sequence', done)
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return redis.error_reply('FENCED the lease is held by another owner')
end
if (held[3] or '0') ~= ARGV[4] then
  return redis.error_reply('OUTDATED ' .. KEYS[1] .. ' has had ' .. (held[3] or '0') .. ' commits, not ' .. ARGV[4] .. ' (' .. ARGV[3] .. ')')
end
local acl = redis.acl_check_cmd
local function refused(command, ...)
  if acl and not acl(command, ...) then
    return redis.error_reply('NOTALLOWED this user may not run ' .. command .. ' here')
  end
end
local function wrong(key, want, kind)
  kind = kind or redis.call('TYPE', key)['ok']
  if kind ~= want and kind ~= 'none' then
    return redis.error_reply('WRONGKIND ' .. key .. ' is a ' .. kind .. ', not a ' .. want)
  end
end
local trim = ARGV[6] == '1'
local source = redis.call('TYPE', KEYS[2])['ok']
local no = wrong(KEYS[2], 'stream', source) or refused('XACK', KEYS[2], ARGV[5], '0-0')
  or refused('HSET', KEYS[1], done, '0-0')
if not no and trim then
  no = refused('XINFO', 'GROUPS', KEYS[2]) or refused('XPENDING', KEYS[2], ARGV[5])
    or refused('XTRIM', KEYS[2], 'MINID', '~', '0-0')
end
if no then return no end
