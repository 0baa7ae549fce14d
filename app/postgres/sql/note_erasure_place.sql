-- $1 erasure, $2 step, $3 place ('': the step is done), $4 found, $5 erased, $6 left, $7 detail
INSERT INTO erasure_steps (erasure_id, step, place, found, erased, left_over, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (erasure_id, step, place) DO UPDATE SET
    found = erasure_steps.found + excluded.found,
    erased = erasure_steps.erased + excluded.erased,
    left_over = excluded.left_over,
    detail = excluded.detail,
    at = now()
