-- A page of events that are on their way by the event log, oldest first: to be tried again, or accepted
-- and delivered to nobody. $1 tenant, $2 past which event, $3 limit. What was received within the last
-- seconds may not be recorded whole.
SELECT e.event_id, e.tool_id, e.type, e.status, e.received_at, e.partition
FROM events AS e
WHERE
    e.tenant = $1 AND e.event_id > $2 AND e.received_at < now() - interval '10 seconds'
    AND (
        e.status = 'retrying'
        OR (
            e.status = 'accepted'
            AND NOT EXISTS (SELECT FROM deliveries AS d WHERE d.event_id = e.event_id)
        )
    )
ORDER BY e.event_id
LIMIT $3
