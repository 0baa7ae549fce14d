-- When keys were used last; of one that is there no more, nothing.
-- $1 ids of keys, $2 their tenants, $3 when
INSERT INTO api_key_uses (key_id, tenant, used_at)
SELECT u.key_id, u.tenant, u.used_at
FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS u (key_id, tenant, used_at)
JOIN api_keys USING (key_id)
ORDER BY u.key_id
ON CONFLICT (key_id) DO UPDATE SET used_at = greatest(api_key_uses.used_at, excluded.used_at)
