-- migration: pre, for code from level 10
-- A secret that a sender has handed over in its first request, until somebody has been shown it.
ALTER TABLE tools ADD COLUMN learnt_secret text;
