-- Add a version to a subject, unless another came first: then no row.
-- $1 tenant, $2 subject, $3 type, $4 source, $5 refs, $6 identity, $7 compiled,
-- $8 the subject's highest version as the caller knew it, deleted ones among them.
WITH kept AS (
    INSERT INTO schemas (tenant, type, source, refs, identity, compiled)
    VALUES ($1, $3, $4, $5, $6, $7)
    ON CONFLICT (tenant, identity) DO UPDATE SET type = excluded.type
    RETURNING schema_id
)
INSERT INTO schema_versions (tenant, subject, version, schema_id)
SELECT $1, $2, $8 + 1, schema_id
FROM kept
WHERE $8 = (
    SELECT coalesce(max(version), 0) FROM schema_versions WHERE tenant = $1 AND subject = $2
)
ON CONFLICT DO NOTHING
RETURNING version, schema_id
