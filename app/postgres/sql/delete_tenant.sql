-- Begin to delete a tenant: from now on nothing comes in. $1 tenant
WITH marked AS (
    UPDATE tenants SET state = 'deleting', reason = '', updated_at = now()
    WHERE tenant_id = $1
    RETURNING tenant_id
)
INSERT INTO tenant_deletions (tenant_id)
SELECT tenant_id FROM marked
ON CONFLICT (tenant_id) DO UPDATE SET
    asked_at = CASE WHEN tenant_deletions.finished_at IS NULL THEN tenant_deletions.asked_at ELSE now() END,
    step = CASE WHEN tenant_deletions.finished_at IS NULL THEN tenant_deletions.step ELSE '' END,
    deleted = CASE WHEN tenant_deletions.finished_at IS NULL THEN tenant_deletions.deleted ELSE '{}' END,
    passes = CASE WHEN tenant_deletions.finished_at IS NULL THEN tenant_deletions.passes ELSE 0 END,
    finished_at = NULL
RETURNING *
