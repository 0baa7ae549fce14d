-- A page of what a replay's filter matches, in the order of the streams, behind a place in them.
-- $1 tenant, filters that count when not null: $2 tool, $3 type as LIKE pattern, $4 status,
-- $5 context, $6 since, $7 until; $8 import; $9 replay, $10 ms, $11 seq, $12 event
-- of the place; $13 limit.
-- Without a status: what is no duplicate and did not fail. What is recorded as replayed already
-- (by an owner that crashed before it noted its place) is marked, and not sent again.
SELECT
    e.event_id, e.tool_id, e.partition, e.entry_id, e.entry_ms, e.entry_seq,
    EXISTS (
        SELECT FROM replay_events AS r WHERE r.replay_id = $9 AND r.event_id = e.event_id
    ) AS replayed
FROM events AS e
WHERE
    tenant = $1
    AND ($2::text IS NULL OR tool_id = $2)
    AND ($3::text IS NULL OR type LIKE $3)
    AND CASE $4::text
        WHEN 'delivered' THEN status = 'accepted' AND EXISTS (
            SELECT FROM deliveries AS d WHERE d.event_id = e.event_id AND d.replay_id IS NULL
        )
        ELSE status = $4 OR ($4 IS NULL AND status NOT IN ('duplicate', 'retrying', 'dead'))
    END
    AND ($5::text IS NULL OR EXISTS (
        SELECT FROM deliveries AS d
        WHERE d.event_id = e.event_id AND d.tenant = $1 AND d.context_id = $5
    ))
    AND ($6::timestamptz IS NULL OR received_at >= $6)
    AND ($7::timestamptz IS NULL OR received_at < $7)
    AND ($8::uuid IS NULL OR import_id = $8)
    AND (entry_ms, entry_seq, event_id) > ($10::bigint, $11::bigint, $12::uuid)
ORDER BY entry_ms, entry_seq, event_id
LIMIT $13
