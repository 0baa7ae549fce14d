-- Keep a new data key, unless its month has one. $1 id, $2 tenant, $3 month, $4 wrapped, $5 by which
INSERT INTO data_keys (key_id, tenant, month, wrapped, wrapped_by)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
RETURNING key_id
