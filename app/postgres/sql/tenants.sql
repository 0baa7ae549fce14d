-- A page of the tenants. $1 past which one, $2 limit
SELECT * FROM tenants WHERE tenant_id > $1 ORDER BY tenant_id LIMIT $2
