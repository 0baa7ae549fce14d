-- Change what is told of a tenant, and what it may have; NULL leaves it as it is.
-- $1 tenant, $2 name, $3 quotas that are set, $4 names of those that are taken away
UPDATE tenants SET
    name = coalesce($2, name),
    quotas = (quotas || $3::jsonb) - $4::text[],
    updated_at = now()
WHERE tenant_id = $1
RETURNING *
