-- A page of a tenant's keys, the oldest first. $1 tenant, $2 and $3 past which time and key, $4 limit
SELECT * FROM api_keys
WHERE tenant = $1 AND (created_at, key_id) > ($2::timestamptz, $3)
ORDER BY created_at, key_id
LIMIT $4
