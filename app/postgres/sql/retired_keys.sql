-- Data keys that seal nothing more since $1.
SELECT key_id, retired_at FROM data_keys
WHERE retired_at >= $1
