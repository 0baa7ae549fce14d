-- migration: pre, for code from level 10
-- What went wrong with conditions of subscriptions, and why one was switched off ('' for not).
ALTER TABLE subscriptions ADD COLUMN switched_off text NOT NULL DEFAULT '';

CREATE TABLE subscription_errors (
    tenant      text NOT NULL,
    context_id  text NOT NULL,
    name        text NOT NULL,
    errors      bigint NOT NULL,
    kind        text NOT NULL,
    error       text NOT NULL,
    last_at     timestamptz NOT NULL,
    PRIMARY KEY (tenant, context_id, name),
    FOREIGN KEY (tenant, context_id, name) REFERENCES subscriptions ON DELETE CASCADE
);
