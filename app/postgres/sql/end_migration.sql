-- Have a tool that has moved copy nothing any more. $1 tool, $2 tenant, $3 the generation that was seen
UPDATE tools SET migration = NULL, forward = NULL, forwarded_since = NULL, updated_at = now()
WHERE tool_id = $1 AND tenant = $2 AND (migration ->> 'generation')::bigint = $3::bigint
RETURNING *
