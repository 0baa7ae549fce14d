-- Delete some outcomes of events of old replays. $1 ended before, $2 limit, $3 tenants of which something is held
DELETE FROM replay_events WHERE ctid = ANY(ARRAY(
    SELECT e.ctid FROM replays AS r
    INNER JOIN replay_events AS e ON e.replay_id = r.replay_id
    WHERE r.status <> 'running' AND r.finished_at < $1::timestamptz AND NOT r.tenant = ANY($3::text[])
    LIMIT $2
))
