-- How far the deletion of a tenant has come. $1 tenant
SELECT * FROM tenant_deletions WHERE tenant_id = $1
