-- migration: pre, for code from level 10
-- Erasures: jobs of the workers, and what is left of them when they are done. `target` names what is to
-- go: ids, or for a person keyed hashes of what was asked for, never that itself; `document` is all that
-- other stores keep of it, so that whichever is restored from an older copy learns it from the others.
CREATE TABLE erasures (
    erasure_id   uuid PRIMARY KEY,
    tenant       text NOT NULL,
    kind         text NOT NULL,
    target       jsonb NOT NULL,
    reason       text NOT NULL DEFAULT '',
    dry_run      boolean NOT NULL DEFAULT false,
    -- running; waiting (a hold keeps it); open (something cannot be erased yet); done
    status       text NOT NULL DEFAULT 'running',
    detail       text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    receipt      jsonb
);
CREATE INDEX erasures_by_time ON erasures (tenant, created_at DESC, erasure_id);
CREATE INDEX erasures_under_way ON erasures (status) WHERE status <> 'done';

-- A step that is done, or (place not '') what was found in a place by one.
CREATE TABLE erasure_steps (
    erasure_id  uuid NOT NULL REFERENCES erasures ON DELETE CASCADE,
    step        text NOT NULL,
    place       text NOT NULL DEFAULT '',
    found       bigint NOT NULL DEFAULT 0,
    erased      bigint NOT NULL DEFAULT 0,
    left_over   bigint NOT NULL DEFAULT 0,
    detail      text NOT NULL DEFAULT '',
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (erasure_id, step, place)
);

-- Events that an erasure has found; `sent` are keyed hashes of what a sender would repeat.
CREATE TABLE tombstones (
    erasure_id  uuid NOT NULL REFERENCES erasures ON DELETE CASCADE,
    event_id    uuid NOT NULL,
    tenant      text NOT NULL,
    sent        bytea[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (erasure_id, event_id)
);
CREATE INDEX tombstones_by_event ON tombstones (event_id);

-- Objects of the archive that went by an erasure: an older copy of the archive may bring them back.
CREATE TABLE erased_objects (
    name        text PRIMARY KEY,
    erasure_id  uuid NOT NULL REFERENCES erasures ON DELETE CASCADE
);

-- By what an event went before its time: an erasure, or a retention policy.
ALTER TABLE events ADD COLUMN gone_by text;

-- The trail tells that it was asked for, and what it came to; never for whom.
CREATE CONSTRAINT TRIGGER erasures_begun AFTER INSERT ON erasures DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION
    audit_change('erasure', 'erasure_id', 'kind,reason,dry_run,status', '', 'begun');
CREATE CONSTRAINT TRIGGER erasures_finished AFTER UPDATE ON erasures DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.status = 'done' AND OLD.status <> 'done') EXECUTE FUNCTION
    audit_change('erasure', 'erasure_id', 'kind,dry_run,status,receipt', '', 'finished');
