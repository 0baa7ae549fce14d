-- migration: pre, for code from level 10
-- Of an event that came with others in one request: the id of the first of them, and its place among
-- them. All of a request have the same millisecond in their ids, so they are found without an index.
ALTER TABLE events
    ADD COLUMN batch_id uuid,
    ADD COLUMN batch_index int NOT NULL DEFAULT 0;
