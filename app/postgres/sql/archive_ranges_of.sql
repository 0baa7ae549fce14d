-- The row groups of objects, in order of time. $1 names
SELECT
    r.object,
    r.row_group,
    r.oldest_ms,
    r.newest_ms,
    o.bytes,
    o.footer_bytes,
    o.tenant,
    o.tool_id
FROM archive_ranges AS r
INNER JOIN archive_objects AS o ON r.object = o.name
WHERE r.object = ANY($1::text[]) AND o.finished
ORDER BY r.oldest_ms, r.object, r.row_group
