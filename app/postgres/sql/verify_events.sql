-- A page of all events that have not gone before their time, in the order of their ids. $1 past which one, $2 limit
SELECT
    event_id, tenant, tool_id, partition, entry_id,
    (extract(epoch FROM received_at) * 1000)::bigint AS received_ms
FROM events
WHERE event_id > $1 AND gone_by IS NULL AND status <> 'erased'
ORDER BY event_id
LIMIT $2
