-- migration: pre, for code from level 4
-- What a subscription follows: a correlation key; '' for whatever it is about. `tool_id` may be '*':
-- every tool of the tenant.
ALTER TABLE subscriptions ADD COLUMN follow text NOT NULL DEFAULT '';
