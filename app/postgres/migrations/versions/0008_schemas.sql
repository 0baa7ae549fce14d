-- migration: pre, for code from level 8
-- Schemas by what they say: one that is registered under several subjects has one id. `compiled` is
-- a FileDescriptorSet for PROTOBUF, empty for JSON. A number is never given twice.
CREATE TABLE schemas (
    schema_id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant       text NOT NULL,
    type         text NOT NULL,
    source       text NOT NULL,
    refs         jsonb NOT NULL,
    identity     bytea NOT NULL,
    compiled     bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant, identity)
);

-- The versions of each subject. A deleted one is still read by its schema's id.
CREATE TABLE schema_versions (
    tenant      text NOT NULL,
    subject     text NOT NULL,
    version     integer NOT NULL,
    schema_id   integer NOT NULL REFERENCES schemas,
    deleted     boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, subject, version)
);
CREATE INDEX schema_versions_by_schema ON schema_versions (schema_id);

-- Compatibility modes; the one of subject '' counts where a subject has none of its own.
CREATE TABLE schema_modes (
    tenant   text NOT NULL,
    subject  text NOT NULL,
    mode     text NOT NULL,
    PRIMARY KEY (tenant, subject)
);

-- {"subject": …, "on_violation": …}; null where payloads need not fit anything.
ALTER TABLE tools ADD COLUMN payload_schema jsonb;
ALTER TABLE events ADD COLUMN schema_errors text[] NOT NULL DEFAULT '{}';

CREATE TRIGGER schema_versions_changed AFTER INSERT OR UPDATE OR DELETE ON schema_versions
    FOR EACH STATEMENT EXECUTE FUNCTION registry_changed();
