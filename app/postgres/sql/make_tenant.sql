-- Make a tenant; no row where there is one of this id, or one of it is being deleted.
-- $1 tenant, $2 name, $3 quotas
INSERT INTO tenants (tenant_id, name, quotas)
SELECT $1, $2, $3::jsonb
WHERE NOT EXISTS (SELECT FROM tenant_deletions WHERE tenant_id = $1 AND finished_at IS NULL)
ON CONFLICT DO NOTHING
RETURNING *
