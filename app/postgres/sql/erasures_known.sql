-- All erasures that were no trials, the newest first.
SELECT
    erasure_id, tenant, kind, target, reason, dry_run, status, detail, created_at, finished_at, receipt
FROM erasures
WHERE NOT dry_run
ORDER BY erasure_id DESC
