-- Give a tool that copies its events into a queue another mode, if it still has the one that was seen.
-- $1 tool, $2 tenant, $3 the generation that was seen (0: it does not move), $4 its migration from now on
UPDATE tools SET migration = $4::jsonb, updated_at = now()
WHERE tool_id = $1 AND tenant = $2 AND forward IS NOT NULL
    AND coalesce((migration ->> 'generation')::bigint, 0) = $3::bigint
RETURNING *
