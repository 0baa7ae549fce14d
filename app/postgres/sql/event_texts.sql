-- What the event log has of events that a sender has written. $1 tenant, $2 behind which one, $3 limit
SELECT
    event_id, type, message_id, delivery_id, error, schema_errors, enrichment
FROM events
WHERE tenant = $1 AND event_id > $2 AND status <> 'erased'
ORDER BY event_id
LIMIT $3
