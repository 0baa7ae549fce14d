-- A page of a tenant's tools. $1 tenant, $2 past which tool, $3 limit
SELECT * FROM tools WHERE tenant = $1 AND tool_id > $2 ORDER BY tool_id LIMIT $3
