-- A page of a tool's events, the oldest first. $1 tenant, $2 tool, $3 past which event, $4 below which,
-- $5 limit. What went by an erasure or a policy is left out.
SELECT
    event_id, tool_id, type, status, duplicate_of, message_id, received_at, partition, entry_id,
    enrichment, import_id
FROM events
WHERE tenant = $1 AND tool_id = $2 AND event_id > $3::uuid AND event_id < $4::uuid AND gone_by IS NULL
ORDER BY event_id
LIMIT $5
