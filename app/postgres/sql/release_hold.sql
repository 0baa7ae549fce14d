-- $1 tenant, $2 hold, $3 reason
UPDATE holds SET released_at = now(), release_reason = $3
WHERE tenant = $1 AND hold_id = $2 AND released_at IS NULL
RETURNING
    hold_id, tenant, tool_id, context_id, first_event, last_event, reason, placed_at, released_at,
    release_reason
