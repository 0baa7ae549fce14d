-- Data keys that were destroyed since $1.
SELECT * FROM data_keys
WHERE shredded_at >= $1
