-- migration: pre, for code from level 10
-- Since when a tool's events are copied into the queue that `forward` names: of events from before, old
-- workers were not given any. Null where that is not known, and where they are copied nowhere.
ALTER TABLE tools ADD COLUMN forwarded_since timestamptz;
