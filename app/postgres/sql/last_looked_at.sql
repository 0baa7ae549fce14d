-- The last one that find_events.sql looks at; no row where it looks at fewer.
-- $1 tenant, $2 tool (null: any), $3 from which id on, $4 below which; $5 how many it looks at
SELECT event_id FROM events
WHERE
    tenant = $1 AND ($2::text IS NULL OR tool_id = $2)
    AND event_id >= $3::uuid AND event_id < $4::uuid
ORDER BY event_id DESC
OFFSET $5 - 1 LIMIT 1
