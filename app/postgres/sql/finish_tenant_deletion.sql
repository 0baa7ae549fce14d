-- All of a tenant is deleted: itself, too. $1 tenant, $2 who
WITH done AS (
    UPDATE tenant_deletions SET finished_at = now(), step = 'done', error = ''
    WHERE tenant_id = $1 AND owner = $2 AND finished_at IS NULL
    RETURNING tenant_id
)
DELETE FROM tenants WHERE tenant_id IN (SELECT tenant_id FROM done)
