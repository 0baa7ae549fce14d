-- Data keys behind $2, $3 at most, that another wrapping key than $1 has wrapped.
SELECT key_id, wrapped, wrapped_by FROM data_keys
WHERE shredded_at IS NULL AND wrapped_by <> $1 AND key_id > $2
ORDER BY key_id LIMIT $3
