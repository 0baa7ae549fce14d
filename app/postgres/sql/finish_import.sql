-- An import is through. $1 tenant, $2 import.
UPDATE imports SET status = 'done', finished_at = now(), updated_at = now()
WHERE tenant = $1 AND import_id = $2::uuid
RETURNING *
