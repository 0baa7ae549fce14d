-- Which migrations this database has had, and the oldest level of code that each leaves able to run.
CREATE TABLE IF NOT EXISTS schema_migrations (
    number      integer PRIMARY KEY,
    name        text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('pre', 'post')),
    code_from   integer NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
)
