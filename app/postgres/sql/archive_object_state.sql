-- What the manifest says of objects. $1 names
SELECT
    name,
    tenant,
    tool_id,
    schema_version,
    events,
    bytes,
    footer_bytes,
    sha256,
    finished
FROM archive_objects
WHERE name = ANY($1::text[])
