-- Give a key another secret; the one before counts until $6. What was before that one ends now.
-- $1 tenant, $2 key id, $3 roles of which it may be, $4 hash, $5 how it begins, $6 until when the old
-- one counts
UPDATE api_keys
SET hash = $4::bytea, prefix = $5, rotated_at = now(),
    previous_hash = encode(hash, 'hex'), previous_until = $6::timestamptz
WHERE tenant = $1 AND key_id = $2 AND role = ANY ($3::text[])
RETURNING *, (SELECT used_at FROM api_key_uses WHERE key_id = $2) AS used_at
