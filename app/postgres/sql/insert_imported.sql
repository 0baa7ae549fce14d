-- Events that came by an import; one that is there already stays as it is.
INSERT INTO events (
    event_id, tenant, tool_id, provider, type, status, duplicate_of, message_id, delivery_id,
    received_at, partition, entry_id, payload_bytes, stage, dedup, enrichment, batch_id, batch_index,
    import_id
)
SELECT
    e.event_id, $1, $2, $3, e.type, e.status, nullif(e.duplicate_of, '')::uuid, e.message_id,
    e.delivery_id, to_timestamp(e.received_at_ms / 1000.0), e.partition, e.entry_id,
    e.payload_bytes, $4, e.dedup, e.enrichment, nullif(e.batch_id, '')::uuid, e.batch_index, $5::uuid
FROM unnest(
    $6::uuid[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::bigint[],
    $13::int[], $14::text[], $15::int[], $16::text[], $17::text[], $18::text[], $19::int[]
) AS e (
    event_id, type, status, duplicate_of, message_id, delivery_id, received_at_ms,
    partition, entry_id, payload_bytes, dedup, enrichment, batch_id, batch_index
)
ON CONFLICT (event_id) DO NOTHING
