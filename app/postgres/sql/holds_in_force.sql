-- All holds that have not been released.
SELECT
    hold_id, tenant, tool_id, context_id, first_event, last_event, reason, placed_at, released_at,
    release_reason
FROM holds
WHERE released_at IS NULL
ORDER BY hold_id
