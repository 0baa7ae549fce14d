-- Make a template, or give it a new version when anything about it differs.
-- $1 tenant, $2 name, $3 provider, $4 types, $5 source.
WITH kept AS (
    INSERT INTO templates AS t (tenant, name, provider, types, source, version)
    VALUES ($1, $2, $3, $4, $5, 1)
    ON CONFLICT (tenant, name) DO UPDATE SET
        provider = $3,
        types = $4,
        source = $5,
        version = t.version
            + ((t.provider, t.types, t.source) IS DISTINCT FROM ($3, $4, $5))::integer,
        updated_at = now()
    RETURNING *
),
history AS (
    INSERT INTO template_versions (tenant, name, version, provider, types, source)
    SELECT tenant, name, version, provider, types, source FROM kept
    ON CONFLICT DO NOTHING
)
SELECT kept.*, created_at = updated_at AS created FROM kept
