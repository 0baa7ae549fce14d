-- $1 tenant
SELECT * FROM tools WHERE tenant = $1 ORDER BY tool_id
