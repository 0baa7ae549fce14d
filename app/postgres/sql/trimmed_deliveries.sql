-- What the event log has of a context's updates from a number to another: the newest $5 of them are
-- counted by tool and type. Summaries of days tell of others once more, and count as nothing.
-- $1 tenant, $2 context, $3 past which number, $4 up to which, $5 limit
SELECT
    e.tool_id, e.type, count(*) AS events, min(d.delivered_at) AS first_at, max(d.delivered_at) AS last_at,
    sum(count(*)) OVER () AS counted
FROM (
    SELECT event_id, delivered_at FROM deliveries
    WHERE tenant = $1 AND context_id = $2 AND seq > $3 AND seq <= $4 AND kind <> 'daily'
    ORDER BY seq DESC
    LIMIT $5
) AS d
LEFT JOIN events AS e ON e.event_id = d.event_id
GROUP BY e.tool_id, e.type
ORDER BY events DESC, e.tool_id, e.type
