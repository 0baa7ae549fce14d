-- The manifest, by name. $1 the name before, $2 most
SELECT
    o.name,
    o.tenant,
    o.tool_id,
    o.schema_version,
    o.events,
    o.bytes,
    o.footer_bytes,
    o.sha256,
    (SELECT sum(r.events) FROM archive_ranges AS r WHERE r.object = o.name) AS in_ranges
FROM archive_objects AS o
WHERE o.finished AND o.name > $1
ORDER BY o.name
LIMIT $2
