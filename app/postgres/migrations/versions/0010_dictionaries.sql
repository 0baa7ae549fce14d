-- migration: pre, for code from level 10
-- zstd dictionaries trained from a tool's own payloads. The id follows from the content and is in
-- every frame that was written with it: a row is needed for as long as any such frame is kept, so it
-- outlives its tool. `ratio`: bytes of payloads that were not trained on to one stored byte.
CREATE TABLE dictionaries (
    dictionary_id bigint PRIMARY KEY,
    tenant        text NOT NULL,
    tool_id       text NOT NULL,
    version       integer NOT NULL,
    content       bytea NOT NULL,
    samples       integer NOT NULL,
    ratio         double precision NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tool_id, version)
);
