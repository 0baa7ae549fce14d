-- Keep a dictionary as the next version of its tool. $1 id, $2 tenant, $3 tool, $4 content,
-- $5 samples, $6 ratio. One that is there already stays as it is.
INSERT INTO dictionaries (dictionary_id, tenant, tool_id, version, content, samples, ratio)
SELECT $1, $2, $3, coalesce(max(d.version), 0) + 1, $4, $5, $6
FROM dictionaries AS d
WHERE d.tool_id = $3
ON CONFLICT DO NOTHING
RETURNING version
