-- Data keys that were destroyed since $1.
SELECT key_id, tenant, month, shredded_at FROM data_keys
WHERE shredded_at >= $1
