-- Of each wanted message id the first event that came near a time, before or after it, and is no
-- duplicate itself. $1 tenant, $2 message ids, $3 times (ms), $4 how near (ms).
SELECT w.ordinality - 1 AS at, e.event_id
FROM unnest($2::text[], $3::bigint[]) WITH ORDINALITY AS w (message_id, at_ms, ordinality)
CROSS JOIN LATERAL (
    SELECT *
    FROM (
        SELECT event_id, tenant, (extract(epoch FROM received_at) * 1000)::bigint AS at_ms
        FROM events
        WHERE message_id = w.message_id AND status <> 'duplicate' AND message_id <> ''
        -- as in first_events.sql
        OFFSET 0
    ) AS known
    WHERE tenant = $1 AND abs(known.at_ms - w.at_ms) < $4::bigint
    ORDER BY known.at_ms
    LIMIT 1
) AS e
