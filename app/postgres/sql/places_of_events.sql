-- Whose events they are, and whom they reached. $1 tenant, $2 events
SELECT
    e.event_id,
    e.tool_id,
    ARRAY(
        SELECT DISTINCT d.context_id FROM deliveries AS d
        WHERE d.tenant = $1 AND d.event_id = e.event_id
    ) AS contexts
FROM events AS e
WHERE e.tenant = $1 AND e.event_id = ANY($2::uuid[])
