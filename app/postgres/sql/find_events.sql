-- Events of a tenant, newest first (an event id is a UUIDv7, so its order is that of time).
-- $1 tenant, then filters that count when not null: $2 event, $3 tool, $4 type glob as LIKE
-- pattern, $5 status, $6 context, $7 since, $8 until, $9 cursor (only older ones); $10 limit; $11
-- whether to read enrichment, which may be 16 KiB an event.
-- "delivered" is derived: an accepted event with a delivery. The two records come from different
-- partitions, in any order, so neither could set it for the other.
SELECT
    e.event_id, e.tool_id, e.provider, e.type, e.outcome, e.duplicate_of, e.message_id, e.dedup,
    e.delivery_id, e.received_at, e.partition, e.entry_id, e.payload_bytes, e.payload_changed,
    e.stage, e.error, e.schema_errors,
    CASE WHEN $11 THEN e.enrichment ELSE '' END AS enrichment
FROM (
    SELECT
        events.*,
        CASE
            WHEN status = 'accepted' AND EXISTS (
                SELECT FROM deliveries AS d
                WHERE d.event_id = events.event_id AND d.replay_id IS NULL
            ) THEN 'delivered'
            ELSE status
        END AS outcome
    FROM events
    WHERE
        tenant = $1
        AND ($2::uuid IS NULL OR event_id = $2)
        AND ($3::text IS NULL OR tool_id = $3)
        AND ($4::text IS NULL OR type LIKE $4)
        AND ($6::text IS NULL OR EXISTS (
            SELECT FROM deliveries AS d
            WHERE d.event_id = events.event_id AND d.tenant = $1 AND d.context_id = $6
        ))
        AND ($7::timestamptz IS NULL OR received_at >= $7)
        AND ($8::timestamptz IS NULL OR received_at < $8)
        AND ($9::uuid IS NULL OR event_id < $9)
) AS e
WHERE $5::text IS NULL OR e.outcome = $5
ORDER BY e.event_id DESC
LIMIT $10
