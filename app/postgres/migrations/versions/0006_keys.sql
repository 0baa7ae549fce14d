-- migration: pre, for code from level 6
-- Keys of agents: each may read the contexts it names, and nothing else. `hash` is the SHA-256 of a
-- key that has 256 random bits, so nobody can try them out.
CREATE TABLE api_keys (
    key_id      text PRIMARY KEY,
    tenant      text NOT NULL,
    name        text NOT NULL,
    hash        bytea NOT NULL UNIQUE,
    contexts    text[] NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TRIGGER api_keys_changed AFTER INSERT OR UPDATE OR DELETE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION registry_changed();
