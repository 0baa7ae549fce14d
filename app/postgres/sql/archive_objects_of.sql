-- A tenant's objects, or those of one of its tools. $1 tenant, $2 tool
SELECT name, tool_id, events, first_event, last_event, oldest_ms, newest_ms
FROM archive_objects
WHERE finished AND tenant = $1 AND ($2::text IS NULL OR tool_id = $2)
ORDER BY name
