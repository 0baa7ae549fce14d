-- $1 tenant, $2 key id, $3 roles of which it may be
DELETE FROM api_keys WHERE tenant = $1 AND key_id = $2 AND role = ANY ($3::text[])
