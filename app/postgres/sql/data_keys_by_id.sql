-- Data keys by their ids ($1), also those that are destroyed.
SELECT key_id, tenant, month, wrapped, wrapped_by, shredded_at FROM data_keys
WHERE key_id = ANY($1::bigint[])
