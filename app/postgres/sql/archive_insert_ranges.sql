-- $1 objects, $2 row groups, $3 the tool's number, $4, $5 first and last millisecond of entries, $6, $7 oldest
-- and newest receipt, $8 events
INSERT INTO archive_ranges (
    object, row_group, place, first_entry, last_entry, oldest_ms, newest_ms, events
)
SELECT
    w.object,
    w.row_group,
    $3,
    w.first_entry,
    w.last_entry,
    w.oldest_ms,
    w.newest_ms,
    w.events
FROM
    unnest(
        $1::text[], $2::integer[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::integer[]
    ) AS w (object, row_group, first_entry, last_entry, oldest_ms, newest_ms, events)
