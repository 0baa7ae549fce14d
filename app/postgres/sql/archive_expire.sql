-- Objects whose newest event is older leave the manifest; their bytes are still to be deleted.
-- $1 tenant, $2 tool, $3 milliseconds, $4, $5 first and last events of what is held
WITH gone AS (
    DELETE FROM archive_objects
    WHERE
        tenant = $1 AND tool_id = $2 AND newest_ms < $3 AND finished
        AND NOT EXISTS (
            SELECT FROM unnest($4::uuid[], $5::uuid[]) AS held (first_event, last_event)
            WHERE
                archive_objects.first_event <= held.last_event
                AND archive_objects.last_event >= held.first_event
        )
    RETURNING name, events
),

left_over AS (
    INSERT INTO archive_leftovers (name) SELECT name FROM gone
),

uncovered AS (
    DELETE FROM archive_covered
    WHERE tenant = $1 AND tool_id = $2 AND newest_ms < $3 AND cardinality($4::uuid[]) = 0
)

SELECT
    count(*) AS objects,
    coalesce(sum(events), 0)::bigint AS events
FROM gone
