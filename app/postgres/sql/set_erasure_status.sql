-- $1 erasure, $2 status, $3 detail
UPDATE erasures SET status = $2, detail = $3
WHERE erasure_id = $1 AND status <> 'done' AND (status, detail) <> ($2, $3)
