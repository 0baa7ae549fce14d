-- migration: pre, for code from level 10
-- A database that is restored from an older copy counts the same versions again, for other changes.
-- The token is random and new with each version: the two together name one state.
ALTER TABLE registry_version ADD COLUMN token bigint NOT NULL DEFAULT 0;

CREATE FUNCTION registry_token() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT 1 + floor(random() * 9007199254740990)::bigint
$$;

CREATE OR REPLACE FUNCTION registry_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE registry_version SET version = version + 1, token = registry_token();
    PERFORM pg_notify('hookstream_registry', '');
    RETURN NULL;
END $$;

UPDATE registry_version SET token = registry_token();
