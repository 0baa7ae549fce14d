-- migration: pre, for code from level 10
-- The audit trail: who has changed or read what. `record` is a JSON text, and what is hashed:
-- hash = SHA-256(previous || record), previous = the hash of the tenant's row before, 32 zero bytes
-- for its first. Other columns are made from it, to look rows up by.
CREATE TABLE audit_trail (
    tenant       text NOT NULL,
    seq          bigint NOT NULL,
    record       text NOT NULL,
    previous     bytea NOT NULL,
    hash         bytea NOT NULL,
    -- RFC 3339 in UTC with microseconds: in the order of time as texts
    at           text COLLATE "C" NOT NULL GENERATED ALWAYS AS (record::jsonb ->> 'at') STORED,
    recorded_at  text COLLATE "C" NOT NULL GENERATED ALWAYS AS (record::jsonb ->> 'recorded_at') STORED,
    actor        text GENERATED ALWAYS AS (record::jsonb #>> '{actor,id}') STORED,
    action       text NOT NULL GENERATED ALWAYS AS (record::jsonb ->> 'action') STORED,
    object_kind  text GENERATED ALWAYS AS (record::jsonb #>> '{object,kind}') STORED,
    object_id    text GENERATED ALWAYS AS (record::jsonb #>> '{object,id}') STORED,
    events       jsonb GENERATED ALWAYS AS (record::jsonb -> 'events') STORED,
    -- one call of the API, all of whose rows have it
    call         text GENERATED ALWAYS AS (record::jsonb ->> 'call') STORED,
    -- of a row that waited in Redis: it is written once
    entry        text GENERATED ALWAYS AS (record::jsonb ->> 'entry') STORED,
    PRIMARY KEY (tenant, seq)
);
CREATE INDEX audit_trail_by_time ON audit_trail (tenant, at);
CREATE INDEX audit_trail_by_actor ON audit_trail (tenant, actor, seq);
CREATE INDEX audit_trail_by_action ON audit_trail (tenant, action, seq);
CREATE INDEX audit_trail_by_object ON audit_trail (tenant, object_kind, object_id, seq);
CREATE INDEX audit_trail_by_event ON audit_trail USING gin (events jsonb_path_ops)
    WHERE events IS NOT NULL;
CREATE INDEX audit_trail_by_call ON audit_trail (call) WHERE call IS NOT NULL;
CREATE UNIQUE INDEX audit_trail_by_entry ON audit_trail (entry) WHERE entry IS NOT NULL;

-- Where each tenant's chain ends, which is locked to append; and behind which row what is kept of it
-- begins (0: at its first).
CREATE TABLE audit_heads (
    tenant      text PRIMARY KEY,
    seq         bigint NOT NULL,
    hash        bytea NOT NULL,
    start_seq   bigint NOT NULL,
    start_hash  bytea NOT NULL
);

CREATE FUNCTION audit_now() RETURNS text LANGUAGE sql AS $$
    SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

-- Append one row to a tenant's chain; its number. Others wait for the end of this transaction.
CREATE FUNCTION audit_append(for_tenant text, body jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    head audit_heads;
    record text;
    moment text;
    new_hash bytea;
BEGIN
    SELECT * INTO head FROM audit_heads WHERE tenant = for_tenant FOR UPDATE;
    IF NOT FOUND THEN
        new_hash := decode(repeat('00', 32), 'hex');
        INSERT INTO audit_heads VALUES (for_tenant, 0, new_hash, 0, new_hash) ON CONFLICT DO NOTHING;
        SELECT * INTO head FROM audit_heads WHERE tenant = for_tenant FOR UPDATE;
    END IF;
    -- after the lock: in the order of numbers
    moment := audit_now();
    record := (
        jsonb_build_object('at', moment) || body
        || jsonb_build_object('seq', head.seq + 1, 'tenant', for_tenant, 'recorded_at', moment)
    )::text;
    new_hash := sha256(head.hash || convert_to(record, 'UTF8'));
    INSERT INTO audit_trail (tenant, seq, record, previous, hash)
    VALUES (for_tenant, head.seq + 1, record, head.hash, new_hash);
    UPDATE audit_heads SET seq = head.seq + 1, hash = new_hash WHERE tenant = for_tenant;
    RETURN head.seq + 1;
END $$;

-- What a row of the trail tells of a table's row: columns that are shown, and of those that are
-- secret how many values there are. What is large is told by its hash.
CREATE FUNCTION audit_shown(entire jsonb, shown text[], secret text[]) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    told jsonb := '{}';
    name text;
BEGIN
    FOREACH name IN ARRAY shown LOOP
        IF octet_length((entire -> name)::text) > 32768 THEN
            told := told || jsonb_build_object(name, jsonb_build_object(
                'bytes', octet_length((entire -> name)::text),
                'sha256', encode(sha256(convert_to((entire -> name)::text, 'UTF8')), 'hex')
            ));
        ELSE
            told := told || jsonb_build_object(name, entire -> name);
        END IF;
    END LOOP;
    FOREACH name IN ARRAY secret LOOP
        told := told || jsonb_build_object(name, jsonb_build_object('count', CASE
            WHEN jsonb_typeof(entire -> name) = 'array' THEN jsonb_array_length(entire -> name)
            WHEN jsonb_typeof(entire -> name) = 'null' THEN 0
            ELSE 1
        END));
    END LOOP;
    RETURN told;
END $$;

-- A row of the trail for each row of a table that is changed, in the transaction that changes it, when
-- that commits: by then it waits for no other lock. Who does it is in `hookstream.acting`, which
-- the pool sets; without, somebody is connected to the database, or a part of the system did it by
-- itself. Arguments: kind of the object, columns of its id, columns shown, columns that are secret,
-- and the verb where it is not made, changed or deleted.
CREATE FUNCTION audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    acting jsonb := coalesce(nullif(current_setting('hookstream.acting', true), ''), '{}')::jsonb;
    old_row jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    new_row jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    one jsonb := coalesce(new_row, old_row);
    shown text[] := string_to_array(TG_ARGV[2], ',');
    secret text[] := string_to_array(TG_ARGV[3], ',');
    before jsonb := audit_shown(old_row, shown, secret);
    after jsonb := audit_shown(new_row, shown, secret);
    verb text := coalesce(TG_ARGV[4], CASE TG_OP
        WHEN 'INSERT' THEN 'made' WHEN 'UPDATE' THEN 'changed' ELSE 'deleted' END);
    name text;
    secrets_changed boolean := false;
BEGIN
    IF TG_OP = 'INSERT' THEN before := NULL; END IF;
    IF TG_OP = 'DELETE' THEN after := NULL; END IF;
    IF TG_OP = 'UPDATE' THEN
        FOREACH name IN ARRAY secret LOOP
            IF old_row -> name IS DISTINCT FROM new_row -> name THEN
                secrets_changed := true;
                after := jsonb_set(after, ARRAY[name, 'changed'], 'true');
            END IF;
        END LOOP;
        IF before = after AND NOT secrets_changed AND acting = '{}' THEN
            RETURN NULL;
        END IF;
    END IF;
    IF acting = '{}' THEN
        acting := jsonb_build_object(
            'actor', jsonb_build_object(
                'kind', CASE WHEN current_setting('application_name') LIKE 'hookstream level %'
                    THEN 'system' ELSE 'database' END,
                'id', session_user, 'name', current_setting('application_name')),
            'role', 'system',
            'address', coalesce(host(inet_client_addr()), ''));
    END IF;
    PERFORM audit_append(
        coalesce(one ->> 'tenant', 'default'),
        jsonb_strip_nulls(acting || jsonb_build_object(
            'action', TG_ARGV[0] || '.' || verb,
            'events', CASE WHEN one ->> 'event_id' IS NOT NULL
                THEN jsonb_build_array(one ->> 'event_id') END
        )) || jsonb_build_object(
            'object', jsonb_build_object('kind', TG_ARGV[0], 'id', (
                SELECT string_agg(one ->> column_name, '/' ORDER BY n)
                FROM unnest(string_to_array(TG_ARGV[1], ',')) WITH ORDINALITY AS c (column_name, n))),
            'before', before,
            'after', after
        )
    );
    RETURN NULL;
END $$;

DO $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT * FROM (VALUES
        ('tools', 'INSERT OR UPDATE OR DELETE', 'tool', 'tool_id',
         'provider,options,dedup,ordering,ttl,alert,payload_schema,webhooks_per_second,allow_from,public_url',
         'secrets,learnt_secret'),
        ('contexts', 'INSERT OR UPDATE OR DELETE', 'context', 'context_id',
         'name,priority,rate,token_budget,daily,retention', ''),
        ('subscriptions', 'INSERT OR UPDATE OR DELETE', 'subscription', 'context_id,name',
         'tool_id,types,condition,follow,priority,switched_off', ''),
        ('templates', 'INSERT OR UPDATE OR DELETE', 'template', 'name',
         'provider,types,source,version', ''),
        ('api_keys', 'INSERT OR UPDATE OR DELETE', 'key', 'key_id', 'name,contexts', 'hash'),
        ('schema_versions', 'INSERT OR UPDATE OR DELETE', 'schema', 'subject,version',
         'schema_id,deleted', ''),
        ('schema_modes', 'INSERT OR UPDATE OR DELETE', 'schema_mode', 'subject', 'mode', ''),
        ('schema_migrations', 'INSERT OR DELETE', 'migration', 'number', 'name,kind,code_from', '')
    ) AS t (name, operations, kind, key, shown, secret)
    LOOP
        EXECUTE format(
            'CREATE CONSTRAINT TRIGGER %I AFTER %s ON %I DEFERRABLE INITIALLY DEFERRED '
            'FOR EACH ROW EXECUTE FUNCTION audit_change(%L, %L, %L, %L)',
            one.name || '_audited', one.operations, one.name, one.kind, one.key, one.shown, one.secret
        );
    END LOOP;
END $$;

-- Of a replay only that it was begun, and that somebody has cancelled it.
CREATE CONSTRAINT TRIGGER replays_begun AFTER INSERT ON replays DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION
    audit_change('replay', 'replay_id', 'event_id,context_id,filter,rate,matched,status', '', 'begun');
CREATE CONSTRAINT TRIGGER replays_cancelled AFTER UPDATE ON replays DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.status = 'cancelled' AND OLD.status <> 'cancelled') EXECUTE FUNCTION
    audit_change('replay', 'replay_id', 'event_id,context_id,sent,status', '', 'cancelled');

-- Rows are appended. Only audit_expire() takes any away, from the beginning on.
CREATE FUNCTION audit_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('hookstream.audit_expires', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'the audit trail is append-only: % is refused', TG_OP;
END $$;
CREATE TRIGGER audit_trail_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_trail
    FOR EACH STATEMENT EXECUTE FUNCTION audit_kept();
-- where triggers are off for a session (session_replication_role), too
ALTER TABLE audit_trail ENABLE ALWAYS TRIGGER audit_trail_kept;

-- Delete the first rows of a tenant, those recorded before a moment, `most` of them; how many. The
-- chain then begins behind the last of them, and a row says so, which is behind all that is deleted:
-- who deletes rows another way has to forge one.
CREATE FUNCTION audit_expire(for_tenant text, before text, most integer) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    head audit_heads;
    last audit_trail;
    gone bigint;
BEGIN
    SELECT * INTO head FROM audit_heads WHERE tenant = for_tenant FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    SELECT * INTO last FROM (
        SELECT * FROM audit_trail WHERE tenant = for_tenant ORDER BY seq LIMIT most
    ) AS oldest WHERE recorded_at < before COLLATE "C" ORDER BY seq DESC LIMIT 1;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    PERFORM set_config('hookstream.audit_expires', 'on', true);
    DELETE FROM audit_trail WHERE tenant = for_tenant AND seq <= last.seq;
    GET DIAGNOSTICS gone = ROW_COUNT;
    PERFORM set_config('hookstream.audit_expires', '', true);
    UPDATE audit_heads SET start_seq = last.seq, start_hash = last.hash WHERE tenant = for_tenant;
    PERFORM audit_append(for_tenant, jsonb_build_object(
        'actor', jsonb_build_object('kind', 'system', 'id', 'retention'),
        'role', 'system', 'address', '',
        'action', 'audit.expired',
        'object', jsonb_build_object('kind', 'audit', 'id', last.seq::text),
        'before', NULL,
        'after', jsonb_build_object(
            'through', last.seq, 'hash', encode(last.hash, 'hex'), 'rows', gone,
            'recorded_before', before)
    ));
    RETURN gone;
END $$;
