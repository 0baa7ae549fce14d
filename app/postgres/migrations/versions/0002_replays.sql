-- migration: pre, for code from level 2
-- The place of an event in its stream: replays go in this order.
ALTER TABLE events
    ADD COLUMN entry_ms bigint GENERATED ALWAYS AS (split_part(entry_id, '-', 1)::bigint) STORED,
    ADD COLUMN entry_seq bigint GENERATED ALWAYS AS (split_part(entry_id, '-', 2)::bigint) STORED;
CREATE INDEX events_by_place ON events (tenant, entry_ms, entry_seq, event_id);

-- One replay is of one event, or of what its filter matches.
ALTER TABLE replays
    ALTER COLUMN event_id DROP NOT NULL,
    ADD COLUMN filter jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN rate double precision NOT NULL DEFAULT 0,
    ADD COLUMN matched bigint NOT NULL DEFAULT 1,
    ADD COLUMN sent bigint NOT NULL DEFAULT 1,
    ADD COLUMN missing bigint NOT NULL DEFAULT 0,
    -- the place of the last event that was sent
    ADD COLUMN at_ms bigint NOT NULL DEFAULT -1,
    ADD COLUMN at_seq bigint NOT NULL DEFAULT -1,
    ADD COLUMN at_event uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    ADD COLUMN all_sent boolean NOT NULL DEFAULT true,
    ADD COLUMN owner text NOT NULL DEFAULT '',
    ADD COLUMN lease_until timestamptz NOT NULL DEFAULT now();
CREATE INDEX replays_by_time ON replays (tenant, created_at DESC, replay_id);
CREATE INDEX replays_to_send ON replays (created_at) WHERE status = 'running' AND NOT all_sent;

-- What became of each replayed event: its newest outcome.
CREATE TABLE replay_events (
    replay_id  uuid NOT NULL REFERENCES replays ON DELETE CASCADE,
    event_id   uuid NOT NULL,
    status     text NOT NULL,
    error      text NOT NULL DEFAULT '',
    PRIMARY KEY (replay_id, event_id)
);
