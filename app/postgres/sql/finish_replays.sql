-- Replays that are through: all sent, and what was sent has come to an end.
UPDATE replays AS r
SET
    status = CASE
        WHEN r.status = 'cancelled' THEN r.status
        WHEN seen.dead > 0 THEN 'failed'
        ELSE 'done'
    END,
    error = coalesce(seen.error, ''),
    finished_at = coalesce(r.finished_at, now())
FROM (
    SELECT
        wanted.replay_id,
        count(e.event_id) FILTER (WHERE e.status <> 'retrying') AS ended,
        count(e.event_id) FILTER (WHERE e.status = 'dead') AS dead,
        min(e.error) FILTER (WHERE e.status = 'dead') AS error
    FROM unnest($1::uuid[]) AS wanted (replay_id)
    LEFT JOIN replay_events AS e USING (replay_id)
    GROUP BY wanted.replay_id
) AS seen
WHERE r.replay_id = seen.replay_id AND r.all_sent AND seen.ended >= r.sent
