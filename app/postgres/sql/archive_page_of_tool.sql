-- The next row groups of a tool in order of time, behind one of them.
-- $1 tenant, $2 tool, $3 its number, $4, $5, $6 the one before, $7 first newest, $8 past the last oldest, $9 most
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
WHERE
    r.place = $3 AND (r.oldest_ms, r.object, r.row_group) > ($4::bigint, $5::text, $6::integer)
    AND r.oldest_ms < $8 AND r.newest_ms >= $7
    AND o.finished AND o.tenant = $1 AND o.tool_id = $2
ORDER BY r.oldest_ms, r.object, r.row_group
LIMIT $9
