-- Destroy the data key of a tenant ($1) and month ($2).
UPDATE data_keys SET wrapped = NULL, shredded_at = now()
WHERE tenant = $1 AND month = $2 AND shredded_at IS NULL
RETURNING key_id
