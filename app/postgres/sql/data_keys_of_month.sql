-- The data keys of a tenant ($1) and month ($2) that are not destroyed: one at most seals, others are retired.
SELECT * FROM data_keys
WHERE tenant = $1 AND month = $2 AND shredded_at IS NULL
