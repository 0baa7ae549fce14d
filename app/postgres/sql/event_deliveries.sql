-- The updates that an event became, oldest first; only of some contexts where those are given.
-- $1 tenant, $2 event, $3 contexts (null: all), $4 limit
SELECT context_id, seq, kind, replay_id, delivered_at
FROM deliveries
WHERE tenant = $1 AND event_id = $2 AND ($3::text[] IS NULL OR context_id = ANY ($3))
ORDER BY delivered_at, context_id, seq
LIMIT $4
