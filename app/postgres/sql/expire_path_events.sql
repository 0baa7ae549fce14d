-- Delete some of what the oldest events came to in the paths of their tools' moves. $1 below which id,
-- $2 limit, $3 tenants of which something is held
DELETE FROM path_events WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM path_events WHERE event_id < $1::uuid AND NOT tenant = ANY($3::text[])
    ORDER BY event_id
    LIMIT $2
))
