-- One tenant. $1 tenant
SELECT * FROM tenants WHERE tenant_id = $1
