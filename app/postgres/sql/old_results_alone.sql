-- What old workers say of events that are not here, by when they were done: some of it, and how much
-- there is by hour.
-- $1 tenant, $2 tool, $3 since, $4 until, $5 from which event id on a delivery id may be meant, $6 limit
WITH alone AS (
    SELECT r.ref, r.finished_at, r.error
    FROM old_results AS r
    WHERE
        r.tenant = $1 AND r.tool_id = $2 AND r.finished_at >= $3 AND r.finished_at < $4
        AND NOT EXISTS (
            SELECT FROM events AS e
            WHERE
                e.tenant = $1 AND e.tool_id = $2
                AND e.event_id = CASE WHEN r.ref LIKE 'e:%' THEN substr(r.ref, 3)::uuid END
        )
        AND NOT EXISTS (
            SELECT FROM events AS e
            WHERE e.tenant = $1 AND e.tool_id = $2 AND e.event_id >= $5::uuid
                AND 'd:' || coalesce(nullif(e.delivery_id, ''), e.event_id::text) = r.ref
        )
)

SELECT
    hour, events, failed,
    ARRAY(
        SELECT a.ref FROM alone AS a
        WHERE date_trunc('hour', a.finished_at, 'UTC') = h.hour
        GROUP BY a.ref
        ORDER BY min(a.finished_at), a.ref
        LIMIT $6
    ) AS refs
FROM (
    SELECT
        date_trunc('hour', finished_at, 'UTC') AS hour,
        count(DISTINCT ref) AS events,
        count(DISTINCT ref) FILTER (WHERE error <> '') AS failed
    FROM alone
    GROUP BY 1
) AS h
ORDER BY hour
