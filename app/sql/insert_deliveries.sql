-- A batch of deliveries. The same one again changes nothing.
INSERT INTO deliveries (tenant, context_id, seq, event_id, replay_id, delivered_at)
SELECT
    d.tenant, d.context_id, d.seq, d.event_id, nullif(d.replay_id, '')::uuid,
    to_timestamp(d.delivered_at_ms / 1000.0)
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::uuid[], $5::text[], $6::bigint[])
    AS d (tenant, context_id, seq, event_id, replay_id, delivered_at_ms)
ON CONFLICT DO NOTHING
