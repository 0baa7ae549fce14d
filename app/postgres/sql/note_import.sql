-- How far an import has come, in the transaction that has the events before that place.
-- $1 tenant, $2 import, $3 place, $4 imported, $5 duplicates among them, $6 known, $7 expired, $8 erased,
-- $9 rejected.
UPDATE imports SET
    place = $3::jsonb, updated_at = now(),
    -- somebody else has stopped it, or a page was still on its way
    status = CASE WHEN status IN ('stopped', 'failed') THEN 'running' ELSE status END,
    reason = '',
    imported = imported + $4, duplicates = duplicates + $5, known = known + $6,
    expired = expired + $7, erased = erased + $8, rejected = rejected + $9
WHERE tenant = $1 AND import_id = $2::uuid
RETURNING *
