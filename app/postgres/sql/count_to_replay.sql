-- How many events a replay's filter matches of those that it may; the newest `examined` were looked at.
-- $1 tenant, filters that count when not null: $2 tool, $3 type as LIKE pattern, $4 status, $5 context;
-- $6 from which id on and $7 below which; $8 import; $9 most that are looked at. What matches is what
-- events_to_replay.sql gives.
SELECT
    count(*) AS examined,
    count(*) FILTER (
        WHERE
        ($3::text IS NULL OR type LIKE $3)
        AND CASE $4::text
            WHEN 'delivered' THEN status = 'accepted' AND EXISTS (
                SELECT FROM deliveries AS d
                WHERE d.event_id = e.event_id AND d.replay_id IS NULL
            )
            ELSE status = $4 OR ($4 IS NULL AND status NOT IN ('duplicate', 'retrying', 'dead'))
        END
        AND ($5::text IS NULL OR EXISTS (
            SELECT FROM deliveries AS d
            WHERE d.event_id = e.event_id AND d.tenant = $1 AND d.context_id = $5
        ))
    ) AS matched
FROM (
    SELECT event_id, type, status FROM events
    WHERE
        tenant = $1 AND ($2::text IS NULL OR tool_id = $2)
        AND event_id >= $6::uuid AND event_id < $7::uuid
        AND ($8::uuid IS NULL OR import_id = $8)
    ORDER BY event_id DESC
    LIMIT $9
) AS e
