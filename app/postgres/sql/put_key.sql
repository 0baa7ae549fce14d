-- Keep an agent's key, as its hash.
-- $1 key id, $2 tenant, $3 name, $4 hash, $5 contexts
INSERT INTO api_keys (key_id, tenant, name, hash, contexts)
VALUES ($1, $2, $3, $4, $5)
RETURNING *
