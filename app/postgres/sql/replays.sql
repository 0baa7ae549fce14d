-- A page of a tenant's replays, the newest first, with what has become of their events so far.
-- $1 tenant; $2 one replay, or null for all; $3 and $4 past which time and replay (null: none); $5 limit;
-- $6 most rows that are counted of each: a replay may be of millions of events, and so many are
-- enough. `counted` says how many were looked at.
SELECT r.*, d.deliveries, e.processed, e.dead, greatest(d.deliveries, e.counted) AS counted
FROM (
    SELECT * FROM replays
    WHERE
        tenant = $1 AND ($2::uuid IS NULL OR replay_id = $2)
        AND (
            $3::timestamptz IS NULL OR created_at < $3
            OR (created_at = $3 AND replay_id > $4::uuid)
        )
    ORDER BY created_at DESC, replay_id
    LIMIT $5
) AS r
CROSS JOIN LATERAL (
    SELECT count(*) AS deliveries
    FROM (SELECT FROM deliveries WHERE replay_id = r.replay_id LIMIT $6) AS some_deliveries
) AS d
CROSS JOIN LATERAL (
    SELECT
        count(*) AS counted,
        count(*) FILTER (WHERE status <> 'retrying') AS processed,
        count(*) FILTER (WHERE status = 'dead') AS dead
    FROM (SELECT status FROM replay_events WHERE replay_id = r.replay_id LIMIT $6) AS some_events
) AS e
ORDER BY r.created_at DESC, r.replay_id
