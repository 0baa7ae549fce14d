-- migration: pre, for code from level 10
-- Which rows each version of the registry changed, so that a process reads those alone. `version` and
-- `token` are the state that a statement led to, `kind` is the table, `row_key` its key. Of a
-- statement that changes more than a thousand rows the log says only that there was one (kind ''):
-- whoever meets that reads all rows, as does who finds his own state in the log no more, since it was
-- trimmed, or since the database was restored from a copy in which there never was that state.
CREATE TABLE registry_changes (
    version  bigint NOT NULL,
    token    bigint NOT NULL,
    kind     text NOT NULL,
    row_key  text[] NOT NULL,
    PRIMARY KEY (version, kind, row_key)
);

-- As registry_changed(), which releases before know of: version and token move, all are told. A
-- statement that changes no row is none. The argument is the key, as columns of the table.
CREATE FUNCTION registry_logged() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    keys text := format('SELECT ARRAY[%s]::text[] AS row_key FROM changed', TG_ARGV[0]);
    many bigint;
    new_version bigint;
    new_token bigint;
BEGIN
    EXECUTE 'SELECT count(*) FROM (SELECT FROM changed LIMIT 1001) AS found' INTO many;
    IF many = 0 THEN
        RETURN NULL;
    END IF;
    UPDATE registry_version SET version = version + 1, token = registry_token()
    RETURNING version, token INTO new_version, new_token;
    -- trimmed; and where somebody has set the version back, what was after it never was
    DELETE FROM registry_changes WHERE version <= new_version - 10000 OR version >= new_version;
    IF many > 1000 THEN
        INSERT INTO registry_changes VALUES (new_version, new_token, '', '{}');
    ELSE
        IF TG_OP = 'UPDATE' THEN
            -- a key may change, too
            keys := keys || format(' UNION SELECT ARRAY[%s]::text[] FROM earlier', TG_ARGV[0]);
        END IF;
        EXECUTE format(
            'INSERT INTO registry_changes SELECT DISTINCT $1, $2, $3, row_key FROM (%s) AS keys', keys
        ) USING new_version, new_token, TG_TABLE_NAME::text;
    END IF;
    PERFORM pg_notify('hookstream_registry', '');
    RETURN NULL;
END $$;

-- A trigger that sees the rows of its statement is for one kind of statement only.
DO $$
DECLARE
    logged record;
BEGIN
    FOR logged IN SELECT * FROM (VALUES
        ('tools', 'tool_id'),
        ('contexts', 'tenant, context_id'),
        ('subscriptions', 'tenant, context_id, name'),
        ('templates', 'tenant, name'),
        ('api_keys', 'key_id'),
        ('schema_versions', 'tenant, subject, schema_id::text')
    ) AS l (name, key)
    LOOP
        EXECUTE format('DROP TRIGGER IF EXISTS %I ON %I', logged.name || '_changed', logged.name);
        EXECUTE format(
            'CREATE TRIGGER %I AFTER INSERT ON %I REFERENCING NEW TABLE AS changed '
            'FOR EACH STATEMENT EXECUTE FUNCTION registry_logged(%L)',
            logged.name || '_inserted', logged.name, logged.key
        );
        EXECUTE format(
            'CREATE TRIGGER %I AFTER UPDATE ON %I REFERENCING OLD TABLE AS earlier NEW TABLE AS changed '
            'FOR EACH STATEMENT EXECUTE FUNCTION registry_logged(%L)',
            logged.name || '_updated', logged.name, logged.key
        );
        EXECUTE format(
            'CREATE TRIGGER %I AFTER DELETE ON %I REFERENCING OLD TABLE AS changed '
            'FOR EACH STATEMENT EXECUTE FUNCTION registry_logged(%L)',
            logged.name || '_deleted', logged.name, logged.key
        );
    END LOOP;
END $$;

-- A schema never changes; one that is gone is read by its id no more.
CREATE TRIGGER schemas_deleted AFTER DELETE ON schemas REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION registry_logged('schema_id');

-- Whether more than `matched` events may match a replay's filter: so many were looked at.
ALTER TABLE replays ADD COLUMN matched_more boolean NOT NULL DEFAULT false;
