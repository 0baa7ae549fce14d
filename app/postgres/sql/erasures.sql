-- A tenant's erasures, the newest first. $1 tenant, $2 one of them, $3 below which one, $4 limit
SELECT
    erasure_id, tenant, kind, target, reason, dry_run, status, detail, created_at, finished_at, receipt
FROM erasures
WHERE tenant = $1 AND ($2::uuid IS NULL OR erasure_id = $2) AND ($3::uuid IS NULL OR erasure_id < $3)
ORDER BY erasure_id DESC
LIMIT $4
