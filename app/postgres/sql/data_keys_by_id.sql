-- Data keys by their ids ($1), also those that are retired or destroyed.
SELECT * FROM data_keys
WHERE key_id = ANY($1::bigint[])
