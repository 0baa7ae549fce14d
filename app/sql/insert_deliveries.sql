-- A batch of deliveries, each number of a feed once. The newest counts: after a failover that lost
-- the end of a feed its numbers are given anew.
INSERT INTO deliveries (tenant, context_id, seq, event_id, replay_id, delivered_at)
SELECT
    d.tenant, d.context_id, d.seq, d.event_id, nullif(d.replay_id, '')::uuid,
    to_timestamp(d.delivered_at_ms / 1000.0)
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::uuid[], $5::text[], $6::bigint[])
    AS d (tenant, context_id, seq, event_id, replay_id, delivered_at_ms)
ON CONFLICT (tenant, context_id, seq) DO UPDATE SET
    event_id = excluded.event_id, replay_id = excluded.replay_id,
    delivered_at = excluded.delivered_at
