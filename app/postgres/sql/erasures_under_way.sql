-- Erasures that are not done, the oldest first.
SELECT
    erasure_id, tenant, kind, target, reason, dry_run, status, detail, created_at, finished_at, receipt
FROM erasures
WHERE status <> 'done'
ORDER BY erasure_id
