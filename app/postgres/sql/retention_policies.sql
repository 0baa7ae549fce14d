-- Retention policies: of all tenants, of one, or one of them. $1 tenant, $2 policy
SELECT
    tenant, policy_id, tool_id, types, data_class, delete_after_seconds, reason, created_at, updated_at
FROM retention_policies
WHERE ($1::text IS NULL OR tenant = $1) AND ($2::text IS NULL OR policy_id = $2)
ORDER BY tenant, policy_id
