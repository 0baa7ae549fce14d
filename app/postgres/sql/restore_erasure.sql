-- $1 id, $2 tenant, $3 kind, $4 target, $5 reason, $6 when it was asked for
INSERT INTO erasures (erasure_id, tenant, kind, target, reason, dry_run, created_at)
VALUES ($1, $2, $3, $4, $5, false, $6)
ON CONFLICT DO NOTHING
RETURNING erasure_id
