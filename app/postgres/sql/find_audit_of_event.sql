-- Rows of the audit trail that are about an event, the newest first; NULL for any.
-- Those of one event are few: they are found by their index, before they are put in order.
-- $1 tenant, $2 actor, $3 action (LIKE), $4 kind of object, $5 object, $6 from, $7 until,
-- $8 below this row, $9 at most, $10 event
WITH found AS MATERIALIZED (
    SELECT * FROM audit_trail
    WHERE tenant = $1 AND events IS NOT NULL AND events @> to_jsonb($10::text)
)
SELECT seq, record, previous, hash
FROM found
WHERE
    ($2::text IS NULL OR actor = $2)
    AND ($3::text IS NULL OR action LIKE $3)
    AND ($4::text IS NULL OR object_kind = $4)
    AND ($5::text IS NULL OR object_id = $5)
    AND ($6::text IS NULL OR at >= $6 COLLATE "C")
    AND ($7::text IS NULL OR at < $7 COLLATE "C")
    AND ($8::bigint IS NULL OR seq < $8)
ORDER BY seq DESC
LIMIT $9
