-- Delete some of what old workers said. $1 done before, $2 limit, $3 tenants of which something is held
DELETE FROM old_results WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM old_results WHERE finished_at < $1::timestamptz AND NOT tenant = ANY($3::text[])
    ORDER BY finished_at
    LIMIT $2
))
