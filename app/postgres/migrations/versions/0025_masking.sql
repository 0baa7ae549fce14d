-- migration: pre, for code from level 10
-- What agents and models are shown of personal data in a tool's events: {"agents": {"email": "mask"},
-- "models": {...}, "fields": {"customer.note": "drop"}}; null: as it comes along.
ALTER TABLE tools ADD COLUMN masking jsonb;
