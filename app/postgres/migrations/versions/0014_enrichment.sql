-- migration: pre, for code from level 10
-- What stages have added to an event: a JSON object as text ('' for nothing), since jsonb cannot hold
-- the character NUL. And whether contexts were told of another payload than the one received.
ALTER TABLE events
    ADD COLUMN enrichment text NOT NULL DEFAULT '',
    ADD COLUMN payload_changed boolean NOT NULL DEFAULT false;
