-- A tenant's dictionaries, or those of one of its tools. $1 tenant, $2 tool
SELECT dictionary_id, tool_id, content FROM dictionaries
WHERE tenant = $1 AND ($2::text IS NULL OR tool_id = $2)
ORDER BY dictionary_id
