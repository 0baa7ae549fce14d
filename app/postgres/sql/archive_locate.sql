-- Row groups that may have entries. $1 tenants, $2 tools, $3 their numbers, $4 milliseconds of entries
SELECT
    w.number,
    r.object,
    r.row_group,
    o.bytes,
    o.footer_bytes
FROM
    unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
    WITH ORDINALITY AS w (tenant, tool_id, place, entry_ms, number)
INNER JOIN archive_ranges AS r
    ON
        box(point(r.first_entry, r.place), point(r.last_entry, r.place))
        @> box(point(w.entry_ms, w.place), point(w.entry_ms, w.place))
INNER JOIN archive_objects AS o
    ON r.object = o.name AND o.tenant = w.tenant AND o.tool_id = w.tool_id
WHERE o.finished
ORDER BY w.number
