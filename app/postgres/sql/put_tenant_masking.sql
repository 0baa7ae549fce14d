-- Set a tenant's rules for personal data; no row where there is no such tenant. $1 tenant, $2 rules
INSERT INTO tenant_masking (tenant, masking)
SELECT
    t.tenant_id,
    $2::jsonb
FROM tenants AS t
WHERE t.tenant_id = $1
ON CONFLICT (tenant) DO UPDATE SET masking = excluded.masking, updated_at = now()
RETURNING tenant AS tenant_id, masking, updated_at
