-- Delete some old replays whose events' outcomes are deleted. $1 ended before, $2 limit, $3 tenants of which something is held
DELETE FROM replays WHERE replay_id = ANY(ARRAY(
    SELECT replay_id FROM replays AS r
    WHERE
        status <> 'running' AND finished_at < $1::timestamptz AND NOT tenant = ANY($3::text[])
        AND NOT EXISTS (SELECT FROM replay_events AS e WHERE e.replay_id = r.replay_id)
    LIMIT $2
))
