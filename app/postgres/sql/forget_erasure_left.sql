-- What a step has left is looked for again. $1 erasure, $2 step
UPDATE erasure_steps SET found = found - left_over, left_over = 0, detail = ''
WHERE erasure_id = $1 AND step = $2 AND left_over > 0
