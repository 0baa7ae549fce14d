-- Delete some old daily summaries. $1 made before, $2 limit, $3 tenants of which something is held
DELETE FROM daily_summaries WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM daily_summaries 
    WHERE created_at < $1::timestamptz AND NOT tenant = ANY($3::text[])
    LIMIT $2
))
