-- $1 tenant, $2 id, $3 tool, $4 types, $5 data class, $6 seconds, $7 reason, $8 most of a tenant's; no row
-- where it has as many, and this one is new
INSERT INTO retention_policies (
    tenant, policy_id, tool_id, types, data_class, delete_after_seconds, reason
)
SELECT $1::text, $2::text, $3::text, $4::text, $5::text, $6::bigint, $7::text
WHERE
    (SELECT count(*) FROM retention_policies WHERE tenant = $1) < $8
    OR EXISTS (SELECT FROM retention_policies WHERE tenant = $1 AND policy_id = $2)
ON CONFLICT (tenant, policy_id) DO UPDATE SET
    tool_id = excluded.tool_id, types = excluded.types, data_class = excluded.data_class,
    delete_after_seconds = excluded.delete_after_seconds, reason = excluded.reason,
    updated_at = now()
RETURNING
    tenant, policy_id, tool_id, types, data_class, delete_after_seconds, reason, created_at, updated_at
