-- What steps of an erasure have found, and which are done. $1 erasure
SELECT step, place, found, erased, left_over, detail, at FROM erasure_steps
WHERE erasure_id = $1
ORDER BY step, place
