-- Commit a batch that appends entries to streams of its partition, and changes nothing else there:
-- how batches of events usually end, those of audit, and of channels of one's own. Its contract is
-- commit.lua's.
-- KEYS: lease, source stream, then the stream of each append.
-- ARGV: epoch, nonce, channel, number of commits so far, group, trim the source (1 or 0), then the
--       value (field d) of each append, then the acknowledged entry ids.
-- Returns the ids that the appends were given, in order.
-- include: commit_begins
for i = 3, #KEYS do
  if KEYS[i] ~= KEYS[i - 1] then
    no = (i == 3 and refused('XADD', KEYS[i], '*', 'd', '')) or wrong(KEYS[i], 'stream')
    if no then return no end
  end
end
-- include: less
-- include: commit_ends
local ids = {}
for i = 3, #KEYS do
  local id = redis.pcall('XADD', KEYS[i], '*', 'd', ARGV[i + 4])
  if type(id) == 'table' then
    -- a stream that has come to its end: what was appended to others is taken back
    for j = 1, #ids do redis.call('XDEL', KEYS[j + 2], ids[j]) end
    return redis.error_reply('WRONGKIND ' .. KEYS[i] .. ' takes no such entry: ' .. (id['err'] or ''))
  end
  ids[i - 2] = id
end
finish(#KEYS + 5)
return ids
