-- $1 ids of keys
SELECT * FROM api_keys WHERE key_id = ANY ($1::text[])
