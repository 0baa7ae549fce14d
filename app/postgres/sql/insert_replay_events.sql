-- Outcomes of replayed events, each (replay, event) once; an end is not taken back.
INSERT INTO replay_events (replay_id, event_id, status, error)
SELECT r.replay_id, e.event_id, e.status, e.error
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[])
    AS e (replay_id, event_id, status, error)
INNER JOIN replays AS r ON r.replay_id = e.replay_id
ON CONFLICT (replay_id, event_id) DO UPDATE SET status = excluded.status, error = excluded.error
WHERE replay_events.status IN ('retrying', 'dead')
