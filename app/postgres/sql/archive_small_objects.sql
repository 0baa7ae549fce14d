-- The tool and day with the most objects that are small, and those, in order of time.
-- $1 bytes of a small one, $2 milliseconds of the end of the newest day, $3 most bytes of all,
-- $4 tenants, $5 tools and $6 days that are left out
WITH day_of AS (
    SELECT
        o.*,
        o.oldest_ms / 86400000 AS day
    FROM archive_objects AS o
    WHERE o.finished AND o.bytes < $1 AND o.newest_ms < $2
),

worst AS (
    SELECT
        tenant,
        tool_id,
        day
    FROM day_of
    WHERE
        (tenant, tool_id, day) NOT IN (
            SELECT
                w.tenant,
                w.tool_id,
                w.day
            FROM
                unnest($4::text[], $5::text[], $6::bigint[])
                AS w (tenant, tool_id, day)
        )
    GROUP BY tenant, tool_id, day
    HAVING count(*) > 1
    ORDER BY count(*) DESC, tenant, tool_id, day
    LIMIT 1
),

small AS (
    SELECT
        d.*,
        sum(d.bytes) OVER (ORDER BY d.oldest_ms, d.name) AS up_to
    FROM day_of AS d
    INNER JOIN worst USING (tenant, tool_id, day)
)

SELECT
    name,
    tenant,
    tool_id,
    bytes,
    footer_bytes,
    events,
    oldest_ms
FROM small
WHERE up_to <= $3
ORDER BY oldest_ms, name
