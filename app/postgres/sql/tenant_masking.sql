-- A tenant's rules for personal data, where there is such a tenant. $1 tenant
SELECT
    t.tenant_id,
    m.masking,
    m.updated_at
FROM tenants AS t
LEFT JOIN tenant_masking AS m ON t.tenant_id = m.tenant
WHERE t.tenant_id = $1
