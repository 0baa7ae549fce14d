-- A page of a tenant's keys, the oldest first. $1 tenant, $2 and $3 past which time and key, $4 limit,
-- $5 of which role (null: of any), $6 the one key (null: all)
SELECT api_keys.*, used_at
FROM api_keys LEFT JOIN api_key_uses USING (key_id)
WHERE api_keys.tenant = $1 AND (created_at, key_id) > ($2::timestamptz, $3)
    AND ($5::text IS NULL OR role = $5) AND ($6::text IS NULL OR key_id = $6)
ORDER BY created_at, key_id
LIMIT $4
