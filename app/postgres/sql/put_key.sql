-- Keep a key, as its hash; no row where the tenant has $9 keys (0: any number). One at a time of a
-- tenant, since it counts.
-- $1 key id, $2 tenant, $3 name, $4 role, $5 contexts, $6 hash, $7 how it begins, $8 when it expires,
-- $9 most keys
INSERT INTO api_keys (key_id, tenant, name, role, contexts, hash, prefix, expires_at)
SELECT $1, $2, $3, $4, $5::text[], $6::bytea, $7, $8::timestamptz
WHERE $9::bigint = 0 OR (SELECT count(*) FROM api_keys WHERE tenant = $2) < $9::bigint
RETURNING *, NULL::timestamptz AS used_at
