-- What was begun and will not be finished. $1 names, or NULL: whatever was begun before $2
WITH gone AS (
    DELETE FROM archive_objects
    WHERE NOT finished AND CASE WHEN $1::text[] IS NULL THEN created_at < $2 ELSE name = ANY($1) END
    RETURNING name
)

INSERT INTO archive_leftovers (name)
SELECT name FROM gone
