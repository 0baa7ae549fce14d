-- $1 tenants
SELECT tenant, masking FROM tenant_masking WHERE tenant = ANY ($1::text[])
