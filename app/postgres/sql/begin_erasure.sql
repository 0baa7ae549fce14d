-- $1 id, $2 tenant, $3 kind, $4 target, $5 reason, $6 whether it is a trial
INSERT INTO erasures (erasure_id, tenant, kind, target, reason, dry_run)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING
    erasure_id, tenant, kind, target, reason, dry_run, status, detail, created_at, finished_at, receipt
