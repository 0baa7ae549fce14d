-- A batch of deliveries. The newest word on a number counts: after a failover that lost the end of a
-- feed its numbers are given anew, and what had them before goes.
WITH given AS (
    SELECT *
    FROM unnest(
        $1::text[], $2::text[], $3::bigint[], $4::uuid[], $5::text[], $6::bigint[], $7::text[]
    ) AS d (tenant, context_id, seq, event_id, replay_id, delivered_at_ms, kind)
),
gone AS (
    DELETE FROM deliveries AS old
    USING (SELECT DISTINCT tenant, context_id, seq FROM given) AS anew
    WHERE
        (old.tenant, old.context_id, old.seq) = (anew.tenant, anew.context_id, anew.seq)
        AND NOT EXISTS (
            SELECT FROM given AS g
            WHERE (g.tenant, g.context_id, g.seq, g.event_id)
                = (old.tenant, old.context_id, old.seq, old.event_id)
        )
)
INSERT INTO deliveries (tenant, context_id, seq, event_id, replay_id, delivered_at, kind)
SELECT
    g.tenant, g.context_id, g.seq, g.event_id, nullif(g.replay_id, '')::uuid,
    to_timestamp(g.delivered_at_ms / 1000.0), g.kind
FROM given AS g
ON CONFLICT (tenant, context_id, seq, event_id) DO UPDATE SET
    replay_id = excluded.replay_id, delivered_at = excluded.delivered_at, kind = excluded.kind
