-- $1 tool, $2 tenant
SELECT * FROM tools WHERE tool_id = $1 AND tenant = $2
