-- Replays whose event has come through the pipeline again.
UPDATE replays AS r
SET status = r2.status, error = r2.error, finished_at = now()
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS r2 (replay_id, status, error)
WHERE r.replay_id = r2.replay_id AND r.finished_at IS NULL
