-- migration: post, for code from level 34
-- Data keys that seal nothing more and still open what they have sealed: an erasure of all of a tenant's
-- data destroys them once nothing needs them, and what comes meanwhile has a new key of the same month.
ALTER TABLE data_keys ADD COLUMN retired_at timestamptz;
DROP INDEX data_keys_of_month;
CREATE UNIQUE INDEX data_keys_of_month ON data_keys (tenant, month) WHERE shredded_at IS NULL AND retired_at IS NULL;
CREATE INDEX data_keys_retired ON data_keys (retired_at) WHERE retired_at IS NOT NULL;
