-- An object that is about to be written: the name under which the same bytes were begun before and not
-- finished, else this one.
-- $1 name, $2 tenant, $3 tool, $4 hour, $5 schema version, $6 events, $7 bytes, $8 payload bytes, $9 footer,
-- $10 sha256, $11, $12 first and last event, $13, $14 oldest and newest receipt
WITH begun AS (
    UPDATE archive_objects
    SET created_at = now()
    WHERE name = (
        SELECT o.name
        FROM archive_objects AS o
        WHERE NOT o.finished AND o.tenant = $2 AND o.tool_id = $3 AND o.sha256 = $10
        ORDER BY o.created_at
        LIMIT 1
        FOR UPDATE
    )
    RETURNING name
),

new AS (
    INSERT INTO archive_objects (
        name, tenant, tool_id, hour, schema_version, events, bytes, payload_bytes, footer_bytes, sha256,
        first_event, last_event, oldest_ms, newest_ms
    )
    SELECT
        $1,
        $2,
        $3,
        to_timestamp($4::bigint / 1000.0),
        $5,
        $6,
        $7,
        $8,
        $9,
        $10,
        $11,
        $12,
        $13,
        $14
    WHERE NOT EXISTS (SELECT FROM begun)
    RETURNING name
)

SELECT name FROM begun
UNION ALL
SELECT name FROM new
