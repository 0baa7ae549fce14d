-- migration: pre, for code from level 3
-- A tool's own alert threshold; what is left out is the installation's.
ALTER TABLE tools ADD COLUMN alert jsonb NOT NULL DEFAULT '{}';
