-- migration: pre, for code from level 10
-- Which claim of a partition writes the event log: whoever wrote it before, and does not know yet that
-- the partition has another owner, finds another nonce here, and writes nothing more.
CREATE TABLE event_log_claims (
    partition  integer PRIMARY KEY,
    nonce      text NOT NULL,
    taken_at   timestamptz NOT NULL DEFAULT now()
);
