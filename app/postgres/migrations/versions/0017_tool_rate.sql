-- migration: pre, for code from level 10
-- How many webhooks of a tool a receiver process accepts a second; null: as many as of any other.
ALTER TABLE tools ADD COLUMN webhooks_per_second double precision;
