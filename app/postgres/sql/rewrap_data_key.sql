-- A data key ($1) that $2 has wrapped is wrapped by $3 now: $4. Nothing where another was quicker.
UPDATE data_keys SET wrapped = $4, wrapped_by = $3
WHERE key_id = $1 AND wrapped_by = $2 AND shredded_at IS NULL
