-- migration: pre, for code from level 10
-- What events of tools that move from old workers came to here, beside what the event log has of each:
-- which path they worked in, whether old workers were given them, and whom they were for.
CREATE TABLE path_events (
    event_id      uuid PRIMARY KEY,
    tenant        text NOT NULL,
    tool_id       text NOT NULL,
    path          text NOT NULL,
    copied        boolean NOT NULL,
    ordering_key  text NOT NULL,
    -- all stages have decided; null: they have not, or there are too many to be kept
    contexts      text[],
    dropped_by    text NOT NULL DEFAULT '',
    decided_at    timestamptz NOT NULL
);
CREATE INDEX path_events_by_tenant ON path_events (tenant, tool_id);

-- What old workers say that they have done. `ref` begins with e: and an event id, or d: and a delivery
-- id. What they did twice has two rows.
CREATE TABLE old_results (
    tenant       text NOT NULL,
    tool_id      text NOT NULL,
    ref          text NOT NULL,
    finished_at  timestamptz NOT NULL,
    -- null: they do not say
    contexts     text[],
    -- '': it was done
    error        text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant, tool_id, ref, finished_at)
);
CREATE INDEX old_results_by_time ON old_results (tenant, tool_id, finished_at);
CREATE INDEX old_results_all_by_time ON old_results (finished_at);

SELECT tenant_row_security();
