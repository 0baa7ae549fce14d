-- Delete some of what the event log and the registry have of a tenant; how much of what.
-- $1 tenant, $2 most rows of each
WITH log AS (
    DELETE FROM events WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM events WHERE tenant = $1 LIMIT $2
    )) RETURNING 1
),
delivered AS (
    DELETE FROM deliveries WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM deliveries WHERE tenant = $1 LIMIT $2
    )) RETURNING 1
),
moved AS (
    DELETE FROM path_events WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM path_events WHERE tenant = $1 LIMIT $2
    )) RETURNING 1
),
told AS (
    DELETE FROM old_results WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM old_results WHERE tenant = $1 LIMIT $2
    )) RETURNING 1
),
days AS (
    DELETE FROM daily_summaries WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM daily_summaries WHERE tenant = $1 LIMIT $2
    )) RETURNING 1
),
replayed AS (
    DELETE FROM replays WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM replays WHERE tenant = $1 LIMIT $2
    )) RETURNING 1
),
brought AS (DELETE FROM imports WHERE tenant = $1 RETURNING 1),
texts AS (DELETE FROM templates WHERE tenant = $1 RETURNING 1),
versions AS (DELETE FROM schema_versions WHERE tenant = $1 RETURNING 1),
shapes AS (DELETE FROM schemas WHERE tenant = $1 RETURNING 1),
modes AS (DELETE FROM schema_modes WHERE tenant = $1 RETURNING 1),
released AS (DELETE FROM holds WHERE tenant = $1 RETURNING 1),
policies AS (DELETE FROM retention_policies WHERE tenant = $1 RETURNING 1),
masked AS (DELETE FROM tenant_masking WHERE tenant = $1 RETURNING 1),
-- what of it lies in backups cannot be read any more; not counted: it is no row that goes
destroyed AS (
    UPDATE data_keys SET wrapped = NULL, shredded_at = now()
    WHERE tenant = $1 AND shredded_at IS NULL RETURNING 1
)
SELECT
    (SELECT count(*) FROM log) AS events,
    (SELECT count(*) FROM delivered) AS deliveries,
    (SELECT count(*) FROM moved) + (SELECT count(*) FROM told) AS moves,
    (SELECT count(*) FROM days) AS summaries,
    (SELECT count(*) FROM replayed) + (SELECT count(*) FROM brought) AS replays,
    (SELECT count(*) FROM texts) AS templates,
    (SELECT count(*) FROM released) + (SELECT count(*) FROM policies)
    + (SELECT count(*) FROM masked) AS rules,
    (SELECT count(*) FROM versions) + (SELECT count(*) FROM shapes) + (SELECT count(*) FROM modes) AS schemas
