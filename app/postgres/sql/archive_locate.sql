-- Row groups that may have entries. $1 tenants, $2 tools, $3 their numbers, $4 milliseconds of entries.
-- Ranges first, by their index, then the objects that these name: otherwise each entry is joined with
-- all objects of its tool.
WITH ranges AS MATERIALIZED (
    SELECT
        w.number,
        w.tenant,
        w.tool_id,
        r.object,
        r.row_group
    FROM
        unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
        WITH ORDINALITY AS w (tenant, tool_id, place, entry_ms, number)
    INNER JOIN archive_ranges AS r
        ON
            box(point(r.first_entry, r.place), point(r.last_entry, r.place))
            @> box(point(w.entry_ms, w.place), point(w.entry_ms, w.place))
)

SELECT
    f.number,
    f.object,
    f.row_group,
    o.bytes,
    o.footer_bytes
FROM ranges AS f
INNER JOIN archive_objects AS o
    ON f.object = o.name AND f.tenant = o.tenant AND f.tool_id = o.tool_id
WHERE o.finished
ORDER BY f.number
