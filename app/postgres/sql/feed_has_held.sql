-- Whether anything of a hold came into a context's feed. $1 tenant, $2 context, $3 tool, $4, $5 range
SELECT EXISTS (
    SELECT FROM deliveries AS d
    INNER JOIN events AS e ON e.event_id = d.event_id
    WHERE
        d.tenant = $1 AND d.context_id = $2 AND d.event_id BETWEEN $4 AND $5
        AND ($3::text IS NULL OR e.tool_id = $3)
) AS held
