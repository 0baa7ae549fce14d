-- migration: pre, for code from level 10
-- Histories that are brought in: from where, and how far each has come. `place` is for whoever reads the
-- source; it is noted with the events before it, so that a command that was stopped goes on behind them.
CREATE TABLE imports (
    import_id    uuid PRIMARY KEY,
    tenant       text NOT NULL,
    tool_id      text NOT NULL,
    source       text NOT NULL,
    -- running (also where nobody sends anything now); done
    status       text NOT NULL DEFAULT 'running',
    place        jsonb NOT NULL DEFAULT '{}',
    imported     bigint NOT NULL DEFAULT 0,
    duplicates   bigint NOT NULL DEFAULT 0,
    known        bigint NOT NULL DEFAULT 0,
    expired      bigint NOT NULL DEFAULT 0,
    erased       bigint NOT NULL DEFAULT 0,
    rejected     bigint NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz
);
CREATE UNIQUE INDEX imports_by_source ON imports (tenant, tool_id, source);
CREATE INDEX imports_by_tenant ON imports (tenant, import_id);

-- By which import an event came; null: it came to its tool. Such an event has its place in the archive in
-- `entry_id`, and never was an entry of a stream.
ALTER TABLE events ADD COLUMN import_id uuid;

CREATE CONSTRAINT TRIGGER imports_begun AFTER INSERT ON imports DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION
    audit_change('import', 'import_id', 'tool_id,source,status', '', 'begun');
-- begun again, or done: of what goes on in between the numbers at its end tell
CREATE CONSTRAINT TRIGGER imports_changed AFTER UPDATE ON imports DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.status <> OLD.status) EXECUTE FUNCTION
    audit_change(
        'import', 'import_id',
        'tool_id,source,status,imported,duplicates,known,expired,erased,rejected', '', 'changed'
    );
