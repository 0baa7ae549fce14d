-- migration: pre, for code from level 10
-- For how long a context's feed keeps its updates, where that is not as in the whole installation:
-- {"age": "30d", "updates": 100000, "acknowledged": "7d"}, each of them if it is its own.
ALTER TABLE contexts ADD COLUMN retention jsonb;
