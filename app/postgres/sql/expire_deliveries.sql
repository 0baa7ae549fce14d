-- Delete some deliveries of the oldest events. $1 below which event id, $2 limit, $3 delivered before, $4 tenants of which
-- something is held:
-- an old event that was replayed lately stays known to have been. No row is ever changed here, so its
-- place is its own.
DELETE FROM deliveries WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM deliveries WHERE event_id < $1::uuid AND delivered_at < $3::timestamptz
        AND NOT tenant = ANY($4::text[])
    ORDER BY event_id
    LIMIT $2
))
