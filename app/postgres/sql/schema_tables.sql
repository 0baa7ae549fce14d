-- Whether the database says what migrations it has had, or Alembic's table does. From the catalog
-- itself: `to_regclass` does not see what another transaction has made while this one waited.
SELECT
    count(*) FILTER (WHERE relname = 'schema_migrations') > 0 AS ours,
    count(*) FILTER (WHERE relname = 'alembic_version') > 0 AS alembics
FROM pg_class
WHERE relkind = 'r' AND relnamespace = ANY (
    SELECT oid FROM pg_namespace WHERE nspname = ANY (current_schemas(false))
)
