-- migration: post, for code from level 28
-- The data keys by which content is sealed (docs/sealing.md), each wrapped by a key that is not here.
-- From here on there may be sealed content in Redis, spools and the archive, which a release before
-- cannot read.
CREATE TABLE data_keys (
    key_id       bigint PRIMARY KEY,
    tenant       text NOT NULL,
    -- of the time at which events were received, in UTC: 2026-11
    month        text COLLATE "C" NOT NULL CHECK (month ~ '^[0-9]{4}-[0-9]{2}$'),
    wrapped      bytea,
    wrapped_by   text NOT NULL,
    made_at      timestamptz NOT NULL DEFAULT now(),
    -- since when it is destroyed: then there is nothing that could be unwrapped
    shredded_at  timestamptz,
    CHECK ((wrapped IS NULL) = (shredded_at IS NOT NULL))
);
CREATE UNIQUE INDEX data_keys_of_month ON data_keys (tenant, month) WHERE shredded_at IS NULL;
CREATE INDEX data_keys_shredded ON data_keys (shredded_at) WHERE shredded_at IS NOT NULL;
CREATE INDEX data_keys_by_wrapping ON data_keys (wrapped_by) WHERE shredded_at IS NULL;

-- Of a key only that it was destroyed, or that somebody has deleted its row. Keys are made and wrapped
-- anew by the system itself.
CREATE CONSTRAINT TRIGGER data_keys_shredded AFTER UPDATE ON data_keys DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.shredded_at IS NOT NULL AND OLD.shredded_at IS NULL) EXECUTE FUNCTION
    audit_change('data_key', 'month,key_id', 'month,wrapped_by,made_at,shredded_at', '', 'shredded');
CREATE CONSTRAINT TRIGGER data_keys_deleted AFTER DELETE ON data_keys DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION
    audit_change('data_key', 'month,key_id', 'month,wrapped_by,made_at,shredded_at', '');
