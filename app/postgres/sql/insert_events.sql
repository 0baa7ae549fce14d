-- A batch of decided events, each id once. What was retried or dead takes its newest outcome; any
-- other decision stands (a batch repeated after a crash says the same again).
INSERT INTO events (
    event_id, tenant, tool_id, provider, type, status, duplicate_of, message_id, delivery_id,
    received_at, partition, entry_id, payload_bytes, stage, error, dedup, schema_errors,
    enrichment, payload_changed, batch_id, batch_index
)
SELECT
    e.event_id, e.tenant, e.tool_id, e.provider, e.type, e.status, nullif(e.duplicate_of, '')::uuid,
    e.message_id, e.delivery_id, to_timestamp(e.received_at_ms / 1000.0), e.partition, e.entry_id,
    e.payload_bytes, e.stage, e.error, e.dedup,
    ARRAY(SELECT json_array_elements_text(e.schema_errors::json)), e.enrichment, e.payload_changed,
    nullif(e.batch_id, '')::uuid, e.batch_index
FROM unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::bigint[], $11::int[], $12::text[], $13::int[], $14::text[],
    $15::text[], $16::text[], $17::text[], $18::text[], $19::boolean[],
    $20::text[], $21::int[]
) AS e (
    event_id, tenant, tool_id, provider, type, status, duplicate_of, message_id, delivery_id,
    received_at_ms, partition, entry_id, payload_bytes, stage, error, dedup,
    schema_errors, enrichment, payload_changed, batch_id, batch_index
)
ON CONFLICT (event_id) DO UPDATE SET
    status = excluded.status, duplicate_of = excluded.duplicate_of, entry_id = excluded.entry_id,
    stage = excluded.stage, error = excluded.error, schema_errors = excluded.schema_errors,
    enrichment = excluded.enrichment, payload_changed = excluded.payload_changed,
    -- a dedup function that failed at first says the message id later
    message_id = excluded.message_id, dedup = coalesce(nullif(excluded.dedup, ''), events.dedup)
WHERE events.status IN ('retrying', 'dead')
