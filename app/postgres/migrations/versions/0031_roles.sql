-- migration: pre, for code from level 10
-- Keys have roles, and those of programs exist (docs/access.md). A release before takes each key for an
-- agent's: one without contexts opens nothing there.
ALTER TABLE api_keys ADD COLUMN role text NOT NULL DEFAULT 'agent';
-- how the key itself begins, to recognise it by; '' where that was not kept
ALTER TABLE api_keys ADD COLUMN prefix text NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN expires_at timestamptz;
ALTER TABLE api_keys ADD COLUMN rotated_at timestamptz;
-- SHA-256 of the key before, as hex, and until when it counts beside the new one
ALTER TABLE api_keys ADD COLUMN previous_hash text UNIQUE;
ALTER TABLE api_keys ADD COLUMN previous_until timestamptz;

-- When a key was used last. A table of its own: what changes in api_keys every process reads anew, and
-- the audit trail records.
CREATE TABLE api_key_uses (
    key_id   text PRIMARY KEY REFERENCES api_keys ON DELETE CASCADE,
    tenant   text NOT NULL,
    used_at  timestamptz NOT NULL
);

DROP TRIGGER api_keys_audited ON api_keys;
CREATE CONSTRAINT TRIGGER api_keys_audited AFTER INSERT OR UPDATE OR DELETE ON api_keys
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_change(
        'key', 'key_id', 'name,role,contexts,prefix,expires_at,rotated_at,previous_until',
        'hash,previous_hash'
    );
