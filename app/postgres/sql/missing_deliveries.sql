-- What the event log has of a context's updates past a number, the first ones, and how many in all.
-- $1 tenant, $2 context, $3 past which number, $4 below which one (null: all), $5 limit.
-- A day's summary told of others once more: what it names is not missing with it. Nor is what has come
-- again under a higher number: Redis came back with it still to be delivered.
SELECT
    d.seq, d.event_id, d.kind, e.tool_id, e.type, e.received_at, count(*) OVER () AS total
FROM deliveries AS d
LEFT JOIN events AS e ON e.event_id = d.event_id
WHERE
    d.tenant = $1 AND d.context_id = $2 AND d.seq > $3 AND ($4::bigint IS NULL OR d.seq < $4)
    AND d.kind <> 'daily'
    AND NOT EXISTS (
        SELECT FROM deliveries AS again
        WHERE
            again.event_id = d.event_id AND again.tenant = $1 AND again.context_id = $2
            AND again.seq >= $4 AND again.replay_id IS NOT DISTINCT FROM d.replay_id
    )
ORDER BY d.seq, d.event_id
LIMIT $5
