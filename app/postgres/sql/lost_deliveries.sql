-- A page of a context's deliveries whose update is in its feed no more, in their order.
-- $1 tenant, $2 context, $3 and $4 first and last numbers of what the feed holds, $5 past which number,
-- $6 past which event of it, $7 limit. What has come again under a number that is there is not lost.
WITH held AS (
    SELECT * FROM unnest($3::bigint[], $4::bigint[]) AS h (first, last)
)
SELECT d.seq, d.event_id, d.kind, d.delivered_at, e.tool_id, e.type, e.received_at
FROM deliveries AS d
LEFT JOIN events AS e ON e.event_id = d.event_id
WHERE
    d.tenant = $1 AND d.context_id = $2 AND (d.seq, d.event_id) > ($5::bigint, $6::uuid)
    AND d.kind <> 'daily'
    AND NOT EXISTS (SELECT FROM held WHERE d.seq BETWEEN held.first AND held.last)
    AND NOT EXISTS (
        SELECT FROM deliveries AS again
        INNER JOIN held ON again.seq BETWEEN held.first AND held.last
        WHERE again.event_id = d.event_id AND again.tenant = $1 AND again.context_id = $2
    )
ORDER BY d.seq, d.event_id
LIMIT $7
