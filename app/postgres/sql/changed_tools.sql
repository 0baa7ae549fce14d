-- $1 tools
SELECT * FROM tools WHERE tool_id = ANY ($1::text[])
