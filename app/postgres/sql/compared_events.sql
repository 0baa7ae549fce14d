-- Events of a tool in the order of their ids, with what they came to in each path.
-- $1 tenant, $2 tool, $3 from which id on, $4 below which, $5 limit
-- Whatever came as part of a webhook of several has the delivery id of all of them, and a duplicate that
-- of its first: there it says nothing. An event without one stands in its message under its own id.
SELECT
    e.event_id, e.received_at, e.status, e.stage, e.error, e.duplicate_of, e.payload_bytes,
    e.partition, e.entry_ms, e.entry_seq,
    p.path, p.copied, p.ordering_key, p.contexts, p.dropped_by, p.decided_at,
    d.contexts AS delivered, d.at AS delivered_at,
    r.finished, r.named, r.errors
FROM (
    SELECT * FROM events
    WHERE tenant = $1 AND tool_id = $2 AND event_id >= $3::uuid AND event_id < $4::uuid
        -- what came out of a history came to neither path
        AND import_id IS NULL
    ORDER BY event_id
    LIMIT $5
) AS e
LEFT JOIN events AS of ON of.event_id = e.duplicate_of
LEFT JOIN path_events AS p ON p.event_id = e.event_id
LEFT JOIN LATERAL (
    SELECT array_agg(DISTINCT context_id) AS contexts, max(delivered_at) AS at
    FROM deliveries
    WHERE event_id = e.event_id AND replay_id IS NULL
) AS d ON true
-- by names alone: where a policy guards rows, no index is asked by what a function makes of them
CROSS JOIN LATERAL (
    SELECT
        'e:' || e.event_id::text AS event,
        CASE
            WHEN e.batch_id IS NOT NULL OR e.delivery_id = of.delivery_id THEN ''
            ELSE 'd:' || coalesce(nullif(e.delivery_id, ''), e.event_id::text)
        END AS delivery
    OFFSET 0
) AS named
LEFT JOIN LATERAL (
    SELECT
        array_agg(finished_at ORDER BY finished_at) AS finished,
        array_agg(coalesce(to_json(contexts)::text, 'null') ORDER BY finished_at) AS named,
        array_agg(error ORDER BY finished_at) AS errors
    FROM (
        SELECT finished_at, contexts, error FROM old_results
        WHERE tenant = $1 AND tool_id = $2 AND ref IN (named.event, named.delivery)
        ORDER BY finished_at
        LIMIT 100
    ) AS said
) AS r ON true
ORDER BY e.event_id
