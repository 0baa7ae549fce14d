-- $1 tenant, $2 id, $3 tool, $4 types, $5 data class, $6 seconds, $7 reason
INSERT INTO retention_policies (
    tenant, policy_id, tool_id, types, data_class, delete_after_seconds, reason
)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant, policy_id) DO UPDATE SET
    tool_id = excluded.tool_id, types = excluded.types, data_class = excluded.data_class,
    delete_after_seconds = excluded.delete_after_seconds, reason = excluded.reason,
    updated_at = now()
RETURNING
    tenant, policy_id, tool_id, types, data_class, delete_after_seconds, reason, created_at, updated_at
