-- All of a tool leaves the manifest, also what is being written. $1 tenant, $2 tool
WITH gone AS (
    DELETE FROM archive_objects
    WHERE tenant = $1 AND tool_id = $2
    RETURNING name, events, finished
),

left_over AS (
    INSERT INTO archive_leftovers (name) SELECT name FROM gone
),

uncovered AS (
    DELETE FROM archive_covered WHERE tenant = $1 AND tool_id = $2
)

SELECT
    count(*) FILTER (WHERE finished) AS objects,
    coalesce(sum(events) FILTER (WHERE finished), 0)::bigint AS events
FROM gone
