-- Events that an erasure has found. $1 erasure, $2 limit
SELECT event_id, sent FROM tombstones
WHERE erasure_id = $1
ORDER BY event_id
LIMIT $2
