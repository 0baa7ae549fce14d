-- migration: pre, for code from level 10
-- What is done for a tenant over the API is done as the role `hookstream_tenant`, which nobody logs in
-- as, which owns nothing, and which row-level security holds: it has the rows of the tenant in
-- `hookstream.tenant`, and without one none. Whoever owns the tables (workers, the door, a release
-- before this one) is not held by it.
--
-- tenant_row_security() makes what is missing of it, as often as it is called: tables that came later,
-- rights, the role itself. It returns '' where tenants are held, else why not. A database where roles
-- may not be made goes on without: then only the statements themselves tell tenants apart.
CREATE FUNCTION tenant_row_security() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    one record;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('tenant_row_security', 0));
    FOR one IN
        SELECT c.oid, c.relname AS name, min(a.attname::text) AS key, c.relrowsecurity AS held
        FROM pg_class AS c
        INNER JOIN pg_attribute AS a ON a.attrelid = c.oid
        WHERE
            c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
            AND NOT a.attisdropped AND (
                a.attname = 'tenant' OR (c.relname = 'tenants' AND a.attname = 'tenant_id')
            )
            -- found by indexes that a policy would keep from being used, and only ever by a tool of the
            -- caller's tenant: docs/tenants.md
            AND c.relname NOT IN ('dictionaries', 'archive_objects', 'archive_covered')
        GROUP BY c.oid, c.relname, c.relrowsecurity
    LOOP
        IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = one.oid AND polname = 'of_tenant') THEN
            EXECUTE format(
                'CREATE POLICY of_tenant ON %I USING (current_user <> ''hookstream_tenant'' '
                'OR %I = current_setting(''hookstream.tenant'', true))', one.name, one.key
            );
        END IF;
        IF NOT one.held THEN
            EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', one.name);
        END IF;
    END LOOP;
    -- what has no tenant of its own and belongs to something that has (events of a replay): as that
    FOR one IN
        SELECT c.relname AS name, a.attname AS key, p.relname AS parent, pa.attname AS parent_key
        FROM pg_constraint AS f
        INNER JOIN pg_class AS c ON c.oid = f.conrelid
        INNER JOIN pg_class AS p ON p.oid = f.confrelid
        INNER JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = f.conkey[1]
        INNER JOIN pg_attribute AS pa ON pa.attrelid = p.oid AND pa.attnum = f.confkey[1]
        WHERE
            f.contype = 'f' AND cardinality(f.conkey) = 1
            AND c.relnamespace = current_schema()::regnamespace
            AND NOT EXISTS (
                SELECT FROM pg_attribute AS own
                WHERE own.attrelid = c.oid AND own.attname = 'tenant' AND NOT own.attisdropped
            )
            AND EXISTS (SELECT FROM pg_policy WHERE polrelid = p.oid AND polname = 'of_tenant')
            AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid AND polname = 'of_tenant')
        ORDER BY f.oid
    LOOP
        IF NOT EXISTS (
            SELECT FROM pg_policy
            WHERE polrelid = one.name::regclass AND polname = 'of_tenant'
        ) THEN
            EXECUTE format(
                'CREATE POLICY of_tenant ON %I USING (current_user <> ''hookstream_tenant'' '
                'OR EXISTS (SELECT FROM %I AS of WHERE of.%I = %I.%I))',
                one.name, one.parent, one.parent_key, one.name, one.key
            );
            EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', one.name);
        END IF;
    END LOOP;

    -- what triggers write is of all tenants: they write it as their owner
    FOR one IN
        SELECT oid::regprocedure AS name FROM pg_proc
        WHERE
            pronamespace = current_schema()::regnamespace AND NOT prosecdef
            AND proname IN ('registry_changed', 'registry_logged', 'audit_change')
    LOOP
        EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER', one.name);
        EXECUTE format(
            'ALTER FUNCTION %s SET search_path TO %I, pg_temp', one.name, current_schema()
        );
    END LOOP;

    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'hookstream_tenant') THEN
        BEGIN
            CREATE ROLE hookstream_tenant NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
        EXCEPTION
            WHEN insufficient_privilege THEN
                RETURN 'the role hookstream_tenant is not there, and this user may not make it: '
                    'CREATE ROLE hookstream_tenant NOLOGIN; GRANT hookstream_tenant TO '
                    || quote_ident(current_user);
            WHEN duplicate_object OR unique_violation THEN
                NULL;  -- from another database of this server, just now
        END;
    END IF;
    IF EXISTS (
        SELECT FROM pg_roles
        WHERE rolname = 'hookstream_tenant' AND (rolsuper OR rolbypassrls)
    ) THEN
        RETURN 'the role hookstream_tenant may step over row-level security: '
            'ALTER ROLE hookstream_tenant NOSUPERUSER NOBYPASSRLS';
    END IF;
    -- a right that its maker does not have by himself
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        BEGIN
            EXECUTE format('GRANT hookstream_tenant TO %I', current_user);
        EXCEPTION WHEN OTHERS THEN
            NULL;  -- it may have been granted already: what follows shows it
        END;
    END IF;
    BEGIN
        SET LOCAL ROLE hookstream_tenant;
        RAISE EXCEPTION USING ERRCODE = 'HS001';  -- back to who it was
    EXCEPTION
        WHEN insufficient_privilege THEN
            RETURN 'this user may not act as hookstream_tenant: GRANT hookstream_tenant TO '
                || quote_ident(current_user);
        WHEN SQLSTATE 'HS001' THEN
            NULL;
    END;

    IF NOT has_schema_privilege('hookstream_tenant', current_schema(), 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO hookstream_tenant', current_schema());
    END IF;
    FOR one IN
        SELECT t.name, t.rights
        FROM (
            SELECT
                c.relname AS name,
                CASE
                    WHEN c.relname IN (
                        'audit_trail', 'audit_heads', 'tenants', 'replay_events', 'partition_marks',
                        'registry_version'
                    ) THEN 'SELECT'
                    ELSE 'SELECT, INSERT, UPDATE, DELETE'
                END AS rights
            FROM pg_class AS c
            WHERE
                c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
                AND (
                    c.relname IN ('partition_marks', 'registry_version')
                    OR EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid AND polname = 'of_tenant')
                )
        ) AS t
        WHERE NOT has_table_privilege('hookstream_tenant', t.name::regclass, 'SELECT')
    LOOP
        EXECUTE format('GRANT %s ON %I TO hookstream_tenant', one.rights, one.name);
    END LOOP;
    RETURN '';
END $$;

SELECT tenant_row_security();
