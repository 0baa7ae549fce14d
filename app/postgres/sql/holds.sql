-- A tenant's holds, the newest first. $1 tenant, $2 one of them, $3 below which one, $4 limit
SELECT
    hold_id, tenant, tool_id, context_id, first_event, last_event, reason, placed_at, released_at,
    release_reason
FROM holds
WHERE tenant = $1 AND ($2::uuid IS NULL OR hold_id = $2) AND ($3::uuid IS NULL OR hold_id < $3)
ORDER BY hold_id DESC
LIMIT $4
