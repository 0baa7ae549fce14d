-- Delete some of the oldest events. $1 below which id, $2 limit. What is still on its way stays.
DELETE FROM events WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM events WHERE event_id < $1::uuid AND status <> 'retrying'
    ORDER BY event_id
    LIMIT $2
))
