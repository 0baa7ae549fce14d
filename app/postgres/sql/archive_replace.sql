-- Objects in whose place one stands now. $1 names
WITH gone AS (
    DELETE FROM archive_objects
    WHERE name = ANY($1::text[])
    RETURNING name
)

INSERT INTO archive_leftovers (name)
SELECT name FROM gone
