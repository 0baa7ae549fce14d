-- An import ends before its end; one that is through stays so. $1 tenant, $2 import, $3 why: '' that somebody
-- has stopped it.
UPDATE imports SET
    status = CASE WHEN status = 'done' THEN 'done' WHEN $3::text = '' THEN 'stopped' ELSE 'failed' END,
    reason = CASE WHEN status = 'done' THEN reason ELSE $3::text END
WHERE tenant = $1 AND import_id = $2::uuid
RETURNING *
