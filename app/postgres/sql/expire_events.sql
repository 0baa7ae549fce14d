-- Delete some of the oldest events. $1 below which id, $2 limit, $3 tenants of which something is held. What is still on its way stays.
DELETE FROM events WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM events WHERE event_id < $1::uuid AND status <> 'retrying' AND NOT tenant = ANY($3::text[])
    ORDER BY event_id
    LIMIT $2
))
