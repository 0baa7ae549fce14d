-- Destroy keys of a tenant ($1) by their ids ($2).
UPDATE data_keys SET wrapped = NULL, shredded_at = now()
WHERE tenant = $1 AND key_id = ANY($2::bigint[]) AND shredded_at IS NULL
RETURNING key_id, month
