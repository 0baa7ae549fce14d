-- migration: pre, for code from level 1
-- Tools, contexts and subscriptions: what operators and agent builders configure.
CREATE TABLE tools (
    tool_id     text PRIMARY KEY,
    tenant      text NOT NULL,
    provider    text NOT NULL,
    secrets     text[] NOT NULL DEFAULT '{}',
    options     jsonb NOT NULL DEFAULT '{}',
    dedup       jsonb NOT NULL,
    ordering    jsonb NOT NULL,
    ttl         jsonb NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE contexts (
    tenant        text NOT NULL,
    context_id    text NOT NULL,
    name          text NOT NULL,
    priority      text NOT NULL,
    rate          jsonb,
    token_budget  integer,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, context_id)
);

CREATE TABLE subscriptions (
    tenant      text NOT NULL,
    context_id  text NOT NULL,
    name        text NOT NULL,
    tool_id     text NOT NULL,
    types       text[] NOT NULL,
    condition   text NOT NULL DEFAULT '',
    priority    text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, context_id, name),
    FOREIGN KEY (tenant, context_id) REFERENCES contexts ON DELETE CASCADE
);

-- One row whose version goes up with every change above. Changes are thereby serialised, and a
-- reader that has version N has every change up to N.
CREATE TABLE registry_version (version bigint NOT NULL);
INSERT INTO registry_version VALUES (1);

CREATE FUNCTION registry_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE registry_version SET version = version + 1;
    PERFORM pg_notify('hookstream_registry', '');
    RETURN NULL;
END $$;

CREATE TRIGGER tools_changed AFTER INSERT OR UPDATE OR DELETE ON tools
    FOR EACH STATEMENT EXECUTE FUNCTION registry_changed();
CREATE TRIGGER contexts_changed AFTER INSERT OR UPDATE OR DELETE ON contexts
    FOR EACH STATEMENT EXECUTE FUNCTION registry_changed();
CREATE TRIGGER subscriptions_changed AFTER INSERT OR UPDATE OR DELETE ON subscriptions
    FOR EACH STATEMENT EXECUTE FUNCTION registry_changed();

-- What became of every event, and where its payload is. `partition` and `entry_id` name the entry
-- of `events[partition]` that holds it.
CREATE TABLE events (
    event_id      uuid PRIMARY KEY,
    tenant        text NOT NULL,
    tool_id       text NOT NULL,
    provider      text NOT NULL,
    type          text NOT NULL,
    status        text NOT NULL,
    duplicate_of  uuid,
    message_id    text NOT NULL,
    delivery_id   text NOT NULL,
    received_at   timestamptz NOT NULL,
    partition     integer NOT NULL,
    entry_id      text NOT NULL,
    payload_bytes integer NOT NULL,
    stage         text NOT NULL DEFAULT '',
    error         text NOT NULL DEFAULT ''
);
CREATE INDEX events_by_time ON events (tenant, event_id DESC);
CREATE INDEX events_by_tool ON events (tenant, tool_id, event_id DESC);

-- Which update of which context an event became.
CREATE TABLE deliveries (
    tenant        text NOT NULL,
    context_id    text NOT NULL,
    seq           bigint NOT NULL,
    event_id      uuid NOT NULL,
    replay_id     uuid,
    delivered_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant, context_id, seq)
);
CREATE INDEX deliveries_by_event ON deliveries (event_id);
CREATE INDEX deliveries_by_replay ON deliveries (replay_id) WHERE replay_id IS NOT NULL;

CREATE TABLE replays (
    replay_id    uuid PRIMARY KEY,
    tenant       text NOT NULL,
    event_id     uuid NOT NULL,
    context_id   text NOT NULL DEFAULT '',
    status       text NOT NULL,
    error        text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz
);
