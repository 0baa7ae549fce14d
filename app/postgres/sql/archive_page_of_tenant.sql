-- The next row groups of all tools of a tenant in order of time, behind one of them.
-- $1 tenant, $2, $3, $4 the one before, $5 first newest, $6 past the last oldest, $7 most
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
    (r.oldest_ms, r.object, r.row_group) > ($2::bigint, $3::text, $4::integer)
    AND r.oldest_ms < $6 AND r.newest_ms >= $5
    AND o.finished AND o.tenant = $1
ORDER BY r.oldest_ms, r.object, r.row_group
LIMIT $7
