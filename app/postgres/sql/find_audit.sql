-- Rows of the audit trail, the newest first; NULL for any. To be planned for its arguments: by which
-- index depends on what is asked for.
-- $1 tenant, $2 actor, $3 action (LIKE), $4 kind of object, $5 object, $6 from, $7 until,
-- $8 below this row, $9 at most
SELECT seq, record, previous, hash
FROM audit_trail
WHERE
    tenant = $1
    AND ($2::text IS NULL OR actor = $2)
    AND ($3::text IS NULL OR action LIKE $3)
    AND ($4::text IS NULL OR object_kind = $4)
    AND ($5::text IS NULL OR object_id = $5)
    AND ($6::text IS NULL OR at >= $6 COLLATE "C")
    AND ($7::text IS NULL OR at < $7 COLLATE "C")
    AND ($8::bigint IS NULL OR seq < $8)
ORDER BY seq DESC
LIMIT $9
