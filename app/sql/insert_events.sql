-- A batch of decided events. The same one again (a batch repeated after a crash) changes nothing.
INSERT INTO events (
    event_id, tenant, tool_id, provider, type, status, duplicate_of, message_id, delivery_id,
    received_at, partition, entry_id, payload_bytes, stage, error
)
SELECT
    e.event_id, e.tenant, e.tool_id, e.provider, e.type, e.status, nullif(e.duplicate_of, '')::uuid,
    e.message_id, e.delivery_id, to_timestamp(e.received_at_ms / 1000.0), e.partition, e.entry_id,
    e.payload_bytes, e.stage, e.error
FROM unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::bigint[], $11::int[], $12::text[], $13::int[], $14::text[],
    $15::text[]
) AS e (
    event_id, tenant, tool_id, provider, type, status, duplicate_of, message_id, delivery_id,
    received_at_ms, partition, entry_id, payload_bytes, stage, error
)
ON CONFLICT (event_id) DO NOTHING
