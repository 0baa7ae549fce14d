-- $1 tenant
SELECT * FROM api_keys WHERE tenant = $1 ORDER BY created_at, key_id
