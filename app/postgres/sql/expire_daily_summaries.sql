-- Delete some old daily summaries. $1 made before, $2 limit
DELETE FROM daily_summaries WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM daily_summaries WHERE created_at < $1::timestamptz LIMIT $2
))
