-- $1 tenant, $2 key id
DELETE FROM api_keys WHERE tenant = $1 AND key_id = $2
