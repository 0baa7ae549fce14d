-- The secret that a sender has handed over becomes that of a tool that has none.
-- $1 tool, $2 tenant, $3 secret
UPDATE tools SET secrets = ARRAY[$3::text], learnt_secret = $3, updated_at = now()
WHERE tool_id = $1 AND tenant = $2 AND secrets = '{}'
RETURNING tool_id
