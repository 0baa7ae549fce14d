-- Suspend or resume a tenant; no row where there is none, or it is being deleted.
-- $1 tenant, $2 state, $3 reason
UPDATE tenants SET state = $2, reason = $3, updated_at = now()
WHERE tenant_id = $1 AND state <> 'deleting'
RETURNING *
