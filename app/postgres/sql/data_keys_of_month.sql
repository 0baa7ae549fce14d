-- The data key of a tenant ($1) and month ($2) that is not destroyed: one or none.
SELECT key_id, tenant, month, wrapped, wrapped_by, shredded_at FROM data_keys
WHERE tenant = $1 AND month = $2 AND shredded_at IS NULL
