-- $1 erasure, $2 receipt, $3 when
WITH finished AS (
    UPDATE erasures SET status = 'done', detail = '', receipt = $2, finished_at = $3
    WHERE erasure_id = $1 AND status <> 'done'
    RETURNING erasure_id, dry_run
)

DELETE FROM tombstones
WHERE erasure_id IN (SELECT erasure_id FROM finished WHERE dry_run)
