-- Objects whose newest event is older leave the manifest; their bytes are still to be deleted.
-- $1 tenant, $2 tool, $3 milliseconds
WITH gone AS (
    DELETE FROM archive_objects
    WHERE tenant = $1 AND tool_id = $2 AND newest_ms < $3 AND finished
    RETURNING name, events
),

left_over AS (
    INSERT INTO archive_leftovers (name) SELECT name FROM gone
),

uncovered AS (
    DELETE FROM archive_covered WHERE tenant = $1 AND tool_id = $2 AND newest_ms < $3
)

SELECT
    count(*) AS objects,
    coalesce(sum(events), 0)::bigint AS events
FROM gone
