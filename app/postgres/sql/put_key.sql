-- Keep an agent's key, as its hash; no row where the tenant has $6 keys (0: any number). One at a
-- time of a tenant, since it counts.
-- $1 key id, $2 tenant, $3 name, $4 hash, $5 contexts, $6 most keys
INSERT INTO api_keys (key_id, tenant, name, hash, contexts)
SELECT $1, $2, $3, $4::bytea, $5::text[]
WHERE $6::bigint = 0 OR (SELECT count(*) FROM api_keys WHERE tenant = $2) < $6::bigint
RETURNING *
