-- migration: pre, for code from level 9
-- What dedup's judgement of an event rests on: window, history, unconfirmed, or nothing to say.
ALTER TABLE events ADD COLUMN dedup text NOT NULL DEFAULT '';

-- Dedup history asks for the event that first had a message id. Nothing but equality is ever asked,
-- and message ids are long: a hash index is a fraction of a B-tree. Duplicates are never the answer;
-- an event whose message id is not known yet has none.
CREATE INDEX events_by_message ON events USING hash (message_id)
    WHERE status <> 'duplicate' AND message_id <> '';
