-- Make or change a subscription.
-- $1 tenant, $2 context, $3 name, $4 tool, $5 types, $6 condition, $7 priority, $8 follow
INSERT INTO subscriptions (tenant, context_id, name, tool_id, types, condition, priority, follow)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (tenant, context_id, name) DO UPDATE SET
    tool_id = $4, types = $5, condition = $6, priority = $7, follow = $8, updated_at = now()
RETURNING *, created_at = updated_at AS created
