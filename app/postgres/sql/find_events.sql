-- Events of a tenant, newest first (an event id is a UUIDv7, so its order is that of time).
-- $1 tenant, then filters that count when not null: $2 event, $3 tool, $4 type glob as LIKE
-- pattern, $5 status, $6 context; $7 from which id on and $8 below which; $9 limit; $10 whether to
-- read enrichment, which may be 16 KiB an event; $11 most that are looked at for those that match; $12 batch.
-- "delivered" is derived: an accepted event with a delivery. The two records come from different
-- partitions, in any order, so neither could set it for the other.
SELECT
    e.event_id, e.tool_id, e.provider, e.type, e.outcome, e.duplicate_of, e.message_id, e.dedup,
    e.delivery_id, e.received_at, e.partition, e.entry_id, e.payload_bytes, e.payload_changed,
    e.stage, e.error, e.schema_errors, e.gone_by, e.batch_id, e.batch_index, e.import_id,
    CASE WHEN $10 THEN e.enrichment ELSE '' END AS enrichment
FROM (
    SELECT
        looked_at.*,
        CASE
            WHEN status = 'accepted' AND EXISTS (
                SELECT FROM deliveries AS d
                WHERE d.event_id = looked_at.event_id AND d.replay_id IS NULL
            ) THEN 'delivered'
            ELSE status
        END AS outcome
    FROM (
        SELECT * FROM events
        WHERE
            tenant = $1
            AND ($2::uuid IS NULL OR event_id = $2)
            AND ($3::text IS NULL OR tool_id = $3)
            AND event_id >= $7::uuid AND event_id < $8::uuid
            AND ($12::uuid IS NULL OR batch_id = $12)
        ORDER BY event_id DESC
        LIMIT $11
    ) AS looked_at
    WHERE
        ($4::text IS NULL OR type LIKE $4)
        AND ($6::text IS NULL OR EXISTS (
            SELECT FROM deliveries AS d
            WHERE d.event_id = looked_at.event_id AND d.tenant = $1 AND d.context_id = $6
        ))
) AS e
WHERE $5::text IS NULL OR e.outcome = $5
ORDER BY e.event_id DESC
LIMIT $9
