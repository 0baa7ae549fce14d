-- What there is to be known of a tenant's ($1) data keys, the newest month first.
SELECT key_id, month, wrapped_by, made_at, shredded_at FROM data_keys
WHERE tenant = $1
ORDER BY month DESC, made_at DESC
