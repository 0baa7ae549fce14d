-- $1 tenants
SELECT tenant_id, name, state, reason, quotas FROM tenants WHERE tenant_id = ANY ($1::text[])
