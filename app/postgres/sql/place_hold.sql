-- $1 id, $2 tenant, $3 tool, $4 context, $5, $6 first and last event, $7 reason
INSERT INTO holds (hold_id, tenant, tool_id, context_id, first_event, last_event, reason)
VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING
    hold_id, tenant, tool_id, context_id, first_event, last_event, reason, placed_at, released_at,
    release_reason
