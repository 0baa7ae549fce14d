-- Commit a batch of updates: entries for feeds, what is counted of them, entries for other streams,
-- and wake-ups. How deliveries usually end; its contract is commit.lua's.
-- KEYS: lease, source stream, then the stream of each append, each hash, each feed.
-- ARGV: epoch, nonce, channel, number of commits so far, group, trim the source (1 or 0), then how many
--       appends, hashes and wake-ups there are; the value (field d) of each append; (number of
--       arguments, field, value, field, value…) for each hash; (number of arguments, id, value, id,
--       value…) for each feed; (channel, message) for each wake-up; the acknowledged entry ids.
-- Returns the ids that the appends were given, in order; those of feeds are the caller's.
-- include: commit_begins
local first_hash = 3 + tonumber(ARGV[7])
local first_feed = first_hash + tonumber(ARGV[8])
for i = 3, #KEYS do
  local hash = i >= first_hash and i < first_feed
  if i == 3 or i == first_feed then no = not hash and refused('XADD', KEYS[i], '*', 'd', '') or nil end
  no = no or (KEYS[i] ~= KEYS[i - 1] and wrong(KEYS[i], hash and 'hash' or 'stream')) or nil
  if no then return no end
end
-- include: less
-- include: commit_ends
-- what a look beforehand cannot say is whether a stream takes another id: so appends come first,
-- those to feeds last, and are taken back where one of them is refused
local added = {}
local function append(key, id, value)
  local reply = redis.pcall('XADD', key, id, 'd', value)
  if type(reply) ~= 'table' then
    added[#added + 1] = reply
    added[#added + 1] = key
    return
  end
  for i = 1, #added, 2 do redis.call('XDEL', added[i + 1], added[i]) end
  -- a feed's entry ids are its sequence numbers: one that is there already is not numbered again, its
  -- owner has a wrong snapshot of it. Another stream has come to its end
  local kind = id == '*' and 'WRONGKIND ' or 'OUTDATED '
  return redis.error_reply(kind .. key .. ' takes no such entry: ' .. (reply['err'] or ''))
end
local at = 10
local ids = {}
for i = 3, first_hash - 1 do
  no = append(KEYS[i], '*', ARGV[at])
  if no then return no end
  ids[#ids + 1] = added[#added - 1]
  at = at + 1
end
local hashes = at
for _ = first_hash, first_feed - 1 do at = at + 1 + tonumber(ARGV[at]) end
for i = first_feed, #KEYS do
  local to = at + tonumber(ARGV[at])
  for j = at + 1, to, 2 do
    no = append(KEYS[i], ARGV[j], ARGV[j + 1])
    if no then return no end
  end
  at = to + 1
end
for i = first_hash, first_feed - 1 do
  local to = hashes + tonumber(ARGV[hashes])
  redis.call('HSET', KEYS[i], unpack(ARGV, hashes + 1, to))
  hashes = to + 1
end
for _ = 1, tonumber(ARGV[9]) do
  -- a wake-up only: who is not told looks again soon
  redis.pcall('PUBLISH', ARGV[at], ARGV[at + 1])
  at = at + 2
end
finish(at)
return ids
