-- A tenant's rows of the audit trail behind one, in the order of the chain.
-- $1 tenant, $2 row, $3 at most
SELECT seq, record, previous, hash, tenant, at, recorded_at, actor, action, object_kind, object_id
FROM audit_trail WHERE tenant = $1 AND seq > $2 ORDER BY seq LIMIT $3
