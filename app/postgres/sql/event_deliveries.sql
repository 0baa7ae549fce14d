-- The updates that an event became, oldest first.
SELECT context_id, seq, kind, replay_id, delivered_at
FROM deliveries
WHERE tenant = $1 AND event_id = $2
ORDER BY delivered_at, context_id, seq
