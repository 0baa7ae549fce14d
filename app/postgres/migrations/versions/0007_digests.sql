-- migration: pre, for code from level 7
-- What an event reached a context as: an update of its own, one digest for several, a day's summary.
-- A number of a feed may then stand for several events.
ALTER TABLE deliveries ADD COLUMN kind text NOT NULL DEFAULT 'update';
ALTER TABLE deliveries DROP CONSTRAINT deliveries_pkey;
ALTER TABLE deliveries ADD PRIMARY KEY (tenant, context_id, seq, event_id);

-- When a context wants a summary of its day: {"at": "08:00", "timezone": "Europe/Berlin", "token_budget": 500}.
ALTER TABLE contexts ADD COLUMN daily jsonb;

CREATE TABLE daily_summaries (
    tenant      text NOT NULL,
    context_id  text NOT NULL,
    day         date NOT NULL,
    seq         bigint NOT NULL,
    summary     text NOT NULL,
    tokens      integer NOT NULL,
    updates     integer NOT NULL,
    from_seq    bigint NOT NULL,
    to_seq      bigint NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant, context_id, day)
);
