-- Imports of a tenant, the newest first. $1 tenant, $2 one of them, $3 below which id, $4 limit.
SELECT * FROM imports
WHERE
    tenant = $1 AND ($2::uuid IS NULL OR import_id = $2) AND ($3::uuid IS NULL OR import_id < $3)
ORDER BY import_id DESC
LIMIT $4
