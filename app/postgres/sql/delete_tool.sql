-- $1 tool, $2 tenant
DELETE FROM tools WHERE tool_id = $1 AND tenant = $2
